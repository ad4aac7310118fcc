"""Online variables: a choice or a number that keeps adapting in service."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from dspex.errors import VariableError
from dspex.variables import spec
from dspex.variables.choice import Bool, Choice
from dspex.variables.numeric import Float, Int

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from dspex.records import Execution, Label, Objective, Value
    from dspex.variables.protocol import Coding, Conditions, Scale, Variable

    FloatArray = npt.NDArray[np.float64]

_PRIOR_WORTH = 0.5
_PRIOR_STD = 0.25
_PRIOR_NOISE = 0.3
_PRIOR_QUALITY = 0.6
_LENGTH_SCALE = 0.25
"""How far apart, as a share of a numeric range, values still do much alike."""
_LEAST_NOISE = 1e-4
_NOISE_RATE = 0.02
_QUALITY_RATE = 0.1
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Online:
    """A variable that adapts while it is used, in a `Registry`.

    Each use teaches it what its value was worth: success, rating, latency and cost, as the runtime's
    objective weighs them. Before a use it may switch to another value, mostly to the one believed best,
    now and then to one that may yet be better.

    Parameters
    ----------
    variable
        A Choice (or Model, Module, Bool), or a Float or Int, of which `resolution` values are tried.
    cooldown_s
        It never switches twice within so many seconds; a write by somebody else counts as a switch.
    budget
        How many uses may try a value that is not believed best. Once they are over it goes to the best,
        as soon as the cooldown allows, and stays there. None: no end.
    budget_usd
        How much such uses may cost, likewise.
    memory
        After about so many uses an old experience has faded, so that a change of the world is noticed.
    resolution
        How many values of a numeric range are tried, evenly spaced, besides the default.
    seed
        Of its draws.

    References
    ----------
    Thompson (1933), "On the likelihood that one unknown probability exceeds another"; the drift is followed
    as in Granmo and Berg (2010), "Solving non-stationary bandit problems by random sampling from sibling
    Kalman filters"; neighbouring numbers learn from each other through a Gaussian process's kernel, as in
    Srinivas et al. (2010), "Gaussian process optimization in the bandit setting".

    Examples
    --------
    >>> Online(Choice(["brief", "kind"]), cooldown_s=60, budget=50).default
    'brief'
    """

    variable: Variable
    cooldown_s: float = 0.0
    budget: int | None = None
    budget_usd: float | None = None
    memory: int = 100
    resolution: int = 7
    seed: int = 0

    kind: ClassVar[str] = "online"

    def __post_init__(self) -> None:
        if not isinstance(self.variable, (Bool, Choice, Float, Int)):
            raise VariableError(
                f"an online variable is a Choice, Float, Int or Bool that adapts, got {self.variable!r}",
                hint="Online(Choice(['brief', 'kind']))",
            )
        lowest = {"cooldown_s": 0, "budget": 0, "budget_usd": 0, "memory": 1, "resolution": 2}
        failures = [
            f"{name} must be a number >= {least}, got {value!r}"
            for name, least in lowest.items()
            for value in [getattr(self, name)]
            if not (value is None and name.startswith("budget")) and not _is_at_least(value, least)
        ]
        if failures:
            raise VariableError.of_all("this online variable is not well formed:", failures)
        if len(self.arms) < 2:  # noqa: PLR2004  # one value is no choice
            raise VariableError(f"an online variable needs at least two values, got {self.variable!r}")

    @property
    def arms(self) -> list[Any]:
        """The values that are tried."""
        tried = list(self.variable.grid(self.resolution))
        return tried if any(_same(arm, self.default) for arm in tried) else [self.default, *tried]

    # ── as a variable it is what it adapts ──────────────────────────────────────────────────────

    def given(self, conditions: Mapping[str, Any] | None = None, /, **named: Any) -> Online:
        """Return it as a variable that exists only where others have certain values."""
        plain: Any = self.variable
        return replace(self, variable=plain.given(conditions, **named))

    @property
    def when(self) -> Conditions:
        """Where it exists."""
        return self.variable.when

    @property
    def default(self) -> Any:
        """The value used at first."""
        return self.variable.default

    @property
    def n_values(self) -> float:
        """How many values there are."""
        return self.variable.n_values

    @property
    def scale(self) -> Scale:
        """How its values relate to one another."""
        return self.variable.scale

    @property
    def width(self) -> int:
        """How many columns of the unit cube it takes."""
        return self.variable.width

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        return self.variable.problem_with(value)

    def canonical(self, value: Any) -> Value:
        """Return a value that fits as JSON has it."""
        return self.variable.canonical(value)

    def coding(self) -> Coding:
        """Return the ways to the unit cube and back."""
        return self.variable.coding()

    def sample(self, rng: random.Random) -> Value:
        """Draw a value."""
        return self.variable.sample(rng)

    def grid(self, resolution: int) -> Sequence[Value]:
        """Return every value, or `resolution` of them evenly spaced."""
        return self.variable.grid(resolution)

    def neighbours(self, value: Any) -> Sequence[Any]:
        """Return the values next to one."""
        return self.variable.neighbours(value)

    def resolve(self, value: Any) -> Any:
        """Return what a value stands for."""
        return self.variable.resolve(value)

    def schema(self) -> dict[str, Any]:
        """Describe the values as a JSON schema."""
        return self.variable.schema()

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON, with labels for objects."""
        return {"kind": self.kind, **self._settings(), "variable": self.variable.content()}

    def to_dict(self) -> dict[str, Any]:
        """Describe the variable as JSON from which it can be made again."""
        return {"kind": self.kind, **self._settings(), "variable": self.variable.to_dict()}

    @classmethod
    def from_dict(cls, arguments: Mapping[str, Any]) -> Online:
        """Make it from what `to_dict` said."""
        return cls(**{**arguments, "variable": spec.variable(arguments["variable"])})

    def _settings(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "variable"}


class Move(NamedTuple):
    """Which value the next use takes, and why."""

    value: Value
    why: str


@dataclass
class _Use:
    """What one use taught, so that a rating can correct it."""

    arm: int
    gain: FloatArray
    surprise: float
    worth: float
    unrated_worth: float
    quality_weight: float


@dataclass
class Learner:
    """What an online variable believes: a worth for each value, each drifting, by Kalman's filter.

    Pure bookkeeping: time, randomness (by the variable's seed) and experience come in as arguments.
    """

    online: Online
    arms: list[Value] = field(init=False)
    explorations: int = 0
    explored_usd: float = 0.0

    def __post_init__(self) -> None:
        import numpy as np

        self.arms = self.online.arms
        self._rng = np.random.default_rng(self.online.seed)
        self._prior = self._kernel()
        self._covariance = self._prior.copy()
        self._mean = np.full(len(self.arms), _PRIOR_WORTH)
        self._qualities: list[float | None] = [None] * len(self.arms)
        self._noise = _PRIOR_NOISE**2
        self._switched_at = -math.inf
        self._settled: int | None = None
        self._uses: OrderedDict[str, _Use] = OrderedDict()

    @property
    def is_spent(self) -> bool:
        """Whether there is no budget left for trying values."""
        budget, usd = self.online.budget, self.online.budget_usd
        return (budget is not None and self.explorations >= budget) or (
            usd is not None and self.explored_usd >= usd
        )

    @property
    def worths(self) -> dict[Value, float]:
        """What each value is believed to be worth, in [0, 1]."""
        return dict(zip(self.arms, self._mean.tolist(), strict=True))

    # ── choosing ────────────────────────────────────────────────────────────────────────────────

    def choose(self, current: Value, now: float) -> Move:
        """Choose the value for the next use: the one in force, or another if it may switch."""
        here, best = self._place(current), self._best(current)
        if self.is_spent and self._settled is None:
            self._settled = best
        if now - self._switched_at < self.online.cooldown_s:
            there = here
        elif self._settled is not None:
            there = self._settled
        else:
            there = self._drawn()
        if there != best and self._settled is None:
            self.explorations += 1
        return Move(self.arms[there], self._why(there, best))

    def switched(self, at: float) -> None:
        """Note that the value has changed, by whomever."""
        self._switched_at = at

    def _best(self, current: Value) -> int:
        here, best = self._place(current), int(self._mean.argmax())
        return here if self._mean[here] >= self._mean[best] else best

    def _drawn(self) -> int:
        # By eigenvalues: rounding may leave one of them a hair below zero, which ends Cholesky's way.
        drawn = self._rng.multivariate_normal(
            self._mean, self._covariance, method="eigh", check_valid="ignore"
        )
        return int(drawn.argmax())

    def _why(self, there: int, best: int) -> str:
        worth = f"worth {self._mean[there]:.3f}"
        if self._settled is not None:
            return f"the budget is spent: {worth}"
        return f"believed best: {worth}" if there == best else f"tried: {worth}, best {self._mean[best]:.3f}"

    # ── learning ────────────────────────────────────────────────────────────────────────────────

    def learn(self, execution: Execution, value: Value, objective: Objective) -> None:
        """Take in how a use went; its quality is what is usual for the value, until it is rated."""
        arm = self._place(value)
        if arm != self._best(value) and self._settled is None:
            self.explored_usd += execution.usage.cost_usd
        unrated = objective.worth_of(execution.usage, 0.0) if execution.ok else 0.0
        weight = objective.quality if execution.ok else 0.0
        worth = unrated + weight * self._quality(arm)
        surprise = worth - float(self._mean[arm])
        gain = self._updated(arm, surprise)
        self._uses[execution.id] = _Use(arm, gain, surprise, worth, unrated, weight)
        if len(self._uses) > _REMEMBERED:
            self._uses.popitem(last=False)

    def rate(self, label: Label) -> None:
        """Take in how good a use's answer was: as news of now, also when it comes late."""
        use = self._uses.get(label.execution_id)
        if use is None:
            return
        known = self._quality(use.arm)
        self._qualities[use.arm] = known + _QUALITY_RATE * (label.quality - known)
        news = use.unrated_worth + use.quality_weight * label.quality - use.worth
        self._mean += use.gain * news
        self._noise_changes_by((use.surprise + news) ** 2 - use.surprise**2)
        use.surprise += news
        use.worth += news

    def _updated(self, arm: int, surprise: float) -> FloatArray:
        """Fold in one worth, after everything has become a little less certain; returns the gain."""
        import numpy as np

        fading = 1.0 / self.online.memory
        self._covariance = (1.0 - fading) * self._covariance + fading * self._prior
        shared = self._covariance[:, arm].copy()
        gain: FloatArray = shared / (shared[arm] + self._noise)
        self._covariance -= np.outer(gain, shared)
        self._mean += gain * surprise
        self._noise_changes_by(surprise**2 - self._noise)
        return gain

    def _noise_changes_by(self, difference: float) -> None:
        self._noise = max(_LEAST_NOISE, self._noise + _NOISE_RATE * difference)

    def _quality(self, arm: int) -> float:
        known = [quality for quality in self._qualities if quality is not None]
        usual = sum(known) / len(known) if known else _PRIOR_QUALITY
        mine = self._qualities[arm]
        return usual if mine is None else mine

    # ── arms ────────────────────────────────────────────────────────────────────────────────────

    def _place(self, value: Value) -> int:
        for index, arm in enumerate(self.arms):
            if _same(arm, value):
                return index
        self._add(value)
        return len(self.arms) - 1

    def _add(self, value: Value) -> None:
        """Make room for a number that somebody wrote and that is none of those tried."""
        import numpy as np

        size = len(self.arms)
        self.arms.append(value)
        self._prior = self._kernel()
        grown = self._prior.copy()
        grown[:size, size] = grown[size, :size] = 0.0  # what is known of the others says nothing of it yet
        grown[:size, :size] = self._covariance
        self._covariance = grown
        self._mean = np.append(self._mean, self._mean.mean())
        self._qualities.append(None)

    def _kernel(self) -> FloatArray:
        """Say how much the worths of two values have in common before anything is known."""
        import numpy as np

        variable = self.online.variable
        kernel: FloatArray = np.eye(len(self.arms))
        if isinstance(variable, (Float, Int)):
            places = np.array([_share(variable, arm) for arm in self.arms])
            distances = (places[:, None] - places[None, :]) / _LENGTH_SCALE
            kernel = np.exp(-(distances**2) / 2.0)
        return _PRIOR_STD**2 * (kernel + 1e-6 * np.eye(len(self.arms)))


def _is_at_least(value: object, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= least


def _share(variable: Float | Int, value: Any) -> float:
    """Return where a number lies in its range, in [0, 1] on the variable's own scale."""
    low, high, at = float(variable.low), float(variable.high), float(value)
    if variable.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def _same(one: Value, other: Value) -> bool:
    # True == 1 in Python, and 1 == 1.0 is one temperature.
    return one == other and isinstance(one, bool) == isinstance(other, bool)
