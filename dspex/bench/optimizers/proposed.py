"""Prompts that DSPy's MIPROv2 proposed itself, as a world to search; and how MIPROv2 searches them.

MIPROv2 bootstraps sets of demonstrations and writes instructions with simulated models; every method then
chooses among the same ones. A call is a request that the student model has not been sent before.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy

from dspex import sandbox
from dspex.bench.optimizers.methods import METHODS
from dspex.bench.optimizers.table import by_calls, quiet
from dspex.bridge import quiet as quiet_bridge
from dspex.bridge.compiled.accelerate import accelerated
from dspex.bridge.lm import from_answerer
from dspex.variables.base import Choice
from dspex.variables.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from dspex.bench.optimizers.table import Job
    from dspex.records import Completion, Configuration, Prompt

TASK = "triage"
MIPRO = "mipro"
"""The method that is no method of ours: MIPROv2's own search."""
STUDENT, PROPOSER = "small", "large"
_N_EACH = 12
"""Instructions, and sets of demonstrations."""
_TRIALS = 40
_N_EXAMPLES = 300


class Candidates(NamedTuple):
    """What MIPROv2 proposed."""

    instructions: Sequence[str]
    demos: Sequence[Sequence[dspy.Example]]


class Proposed:
    """MIPROv2's own candidates for a sandbox task: instructions, each with each set of demonstrations.

    Parameters
    ----------
    seed
        Of the task's examples, of the models, and of MIPROv2.
    """

    def __init__(self, seed: int) -> None:
        self._task = sandbox.task(TASK, seed=seed)
        self._examples = self._task.dev[:_N_EXAMPLES]
        self._seed = seed
        self._model = _Counting(STUDENT, seed=seed)
        self._lm = from_answerer(f"sandbox/{STUDENT}", self._model, sandbox.price(STUDENT))
        self._program = dspy.Predict(self._task.signature)
        self._known: dict[tuple[int, int, int], float] = {}
        found = self._propose()
        self.calls_to_propose, self._model.n_calls = self._model.n_calls, 0
        self.candidates = found
        self.n_examples = len(self._examples)
        self.space = Space(
            instruction=Choice([*range(len(found.instructions))]), demos=Choice([*range(len(found.demos))])
        )
        self._truths = {self.space.key_of(each): self._truth_of(each) for each in self.space.configurations()}
        self.best = max(self._truths.values())

    @property
    def calls(self) -> int:
        """How many requests the student model was sent, repetitions aside."""
        return self._model.n_calls

    @property
    def truths(self) -> list[float]:
        """Return every configuration's expected score, the default's first."""
        return list(self._truths.values())

    def score(self, configuration: Configuration, examples: Sequence[int]) -> list[float]:
        """Run the program on some examples."""
        i, d = _place(configuration)
        with self._at_work():
            program = self._bound(i, d)
            for k in examples:
                if (i, d, k) not in self._known:
                    self._known[i, d, k] = self._scored(program, self._examples[k])
        return [self._known[i, d, k] for k in examples]

    def regret(self, configuration: Configuration) -> float:
        """Return how far a configuration's expected score is below the best."""
        return self.best - self._truths[self.space.key_of(configuration)]

    def _scored(self, program: dspy.Module, example: dspy.Example) -> float:
        try:
            return float(self._task.metric(example, program(**example.inputs())))
        except Exception:  # noqa: BLE001  # an answer that nobody can read is wrong, as it is to MIPROv2
            return 0.0

    def _bound(self, i: int, d: int) -> dspy.Module:
        program = self._program.deepcopy()
        program.signature = program.signature.with_instructions(self.candidates.instructions[i])
        program.demos = self.candidates.demos[d]
        return program

    def _truth_of(self, configuration: Configuration) -> float:
        """Say what the response surface gives; no model is asked."""
        i, d = _place(configuration)
        said = {"instructions": self.candidates.instructions[i], "demos": self.candidates.demos[d]}
        return self._task.optimum([said]).score

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Set DSPy up: the student's model, as few words as possible, and formats written sooner."""
        logging.getLogger("dspy").setLevel(logging.CRITICAL)
        quiet_bridge.install()
        settings: dict[str, Any] = {quiet_bridge.SETTING: "bench"}
        with accelerated(), dspy.context(lm=self._lm, disable_history=True, **settings):
            yield

    # ── MIPROv2 ─────────────────────────────────────────────────────────────────────────────────

    def _propose(self) -> Candidates:
        """Let MIPROv2 bootstrap and propose, and stop it before it searches."""
        watched = self._mipro(_Proposing)
        self._compile(watched)
        found: Candidates = watched.candidates
        return found

    def search_as_mipro(self) -> list[tuple[int, Configuration]]:
        """Let MIPROv2 search its candidates; return its best so far with the calls made, as often as it looks."""
        self._model.forget()
        watched = self._mipro(_Searching)
        watched.model = self._model
        self._compile(watched)
        assert watched.candidates == self.candidates  # it proposed the same again
        return [(calls, self._place_of(program)) for calls, program in watched.steps]

    def _mipro(self, kind: type[Any]) -> Any:
        return kind(
            metric=self._task.metric,
            prompt_model=sandbox.lm(PROPOSER, seed=self._seed),
            task_model=self._lm,
            auto=None,
            num_candidates=_N_EACH,
            num_threads=1,
            seed=self._seed + 1,  # it reads 0 as none
            max_errors=1_000_000,
        )

    def _compile(self, optimizer: Any) -> None:
        with self._at_work():
            optimizer.compile(
                self._program, trainset=self._task.train, valset=self._examples, num_trials=_TRIALS
            )

    def _place_of(self, program: dspy.Module) -> dict[str, int]:
        """Say which candidates a program holds."""
        predictor = program.predictors()[0]
        return {
            "instruction": self.candidates.instructions.index(predictor.signature.instructions),
            "demos": self.candidates.demos.index(predictor.demos),
        }


class _Proposing(dspy.MIPROv2):  # type: ignore[misc]  # dspy is untyped
    """MIPROv2 as far as its candidates."""

    candidates: Candidates

    def _optimize_prompt_parameters(
        self, program: Any, instructions: Mapping[int, list[str]], demos: Mapping[int, list[Any]], *rest: Any
    ) -> Any:
        del rest
        self.candidates = Candidates(instructions[0], demos[0])
        return program


class _Searching(_Proposing):
    """MIPROv2, whole: its best program is noted whenever it has scored one in full."""

    model: _Counting

    def _optimize_prompt_parameters(
        self, program: Any, instructions: Any, demos: Any, evaluate: Any, *rest: Any
    ) -> Any:
        super()._optimize_prompt_parameters(program, instructions, demos)
        self.model.n_calls = 0
        self.steps = [(0, program.deepcopy())]
        return dspy.MIPROv2._optimize_prompt_parameters(  # noqa: SLF001  # the only place to see it from
            self, program, instructions, demos, evaluate, *rest
        )

    def _perform_full_evaluation(self, *arguments: Any, **options: Any) -> Any:
        found = super()._perform_full_evaluation(*arguments, **options)
        self.steps.append((self.model.n_calls, found[1]))
        return found


class _Counting(sandbox.SimulatedModel):
    """A simulated model that counts the requests that differ, and remembers its answers."""

    n_calls = 0

    def answer(self, prompt: Prompt) -> Completion:
        request = (prompt.system, prompt.messages, prompt.temperature, prompt.rollout)
        known = self.__dict__.setdefault("_replies", {})
        if request not in known:
            self.n_calls += 1
            known[request] = super().answer(prompt)
        reply: Completion = known[request]
        return reply

    def forget(self) -> None:
        """Begin anew."""
        self.__dict__["_replies"] = {}


class Facts(NamedTuple):
    """What is there to be found in one world."""

    default: float
    best: float
    median: float
    near: float
    """Share of the candidates within 0.01 of the best."""
    calls_to_propose: float


def facts(seed: int) -> Facts:
    """Look at one world."""
    world = Proposed(seed)
    truths = world.truths
    near = sum(each >= world.best - 0.01 for each in truths) / len(truths)
    return Facts(truths[0], world.best, statistics.median(truths), near, world.calls_to_propose)


def describe() -> str:
    """Say what is searched, and by whom it was proposed."""
    return (
        f"{_N_EACH} instructions x {_N_EACH} sets of demos, proposed by it with sandbox/{PROPOSER} "
        f"for sandbox/{STUDENT}"
    )


def _place(configuration: Configuration) -> tuple[int, int]:
    return int(str(configuration["instruction"])), int(str(configuration["demos"]))


def curve(job: Job) -> NDArray[np.float64]:
    """Run one method, or MIPROv2, on one world, and return the regret of what it recommends."""
    quiet()
    world = Proposed(job.seed)
    if job.method == MIPRO:
        return by_calls(world, world.search_as_mipro(), job.budget)
    steps = ((world.calls, each) for each in METHODS[job.method].run(world, job.seed))
    return by_calls(world, steps, job.budget)
