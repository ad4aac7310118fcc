"""What plots of a study draw: scores by example, where programs came from, and where the calls went."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dspex.bridge import examples as examples_bridge

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from dspex.optimizers.experiment import Experiment
    from dspex.records import Candidate, Configuration, Trial

_SHOWN_CHARS = 120


@dataclass(frozen=True, slots=True)
class Heatmap:
    """Scores of configurations, best first, by example, hardest first.

    Attributes
    ----------
    trials
        The most thorough trial of each configuration, or of each program of an optimizer of DSPy.
    example_keys, examples
        What the ledger calls them, and their inputs in a few words.
    scores
        Shape ``(trials, examples)``; nan where one was not scored.
    """

    study: str
    trials: tuple[Trial, ...]
    example_keys: tuple[str, ...]
    examples: tuple[str, ...]
    scores: NDArray[np.float64]

    def to_frame(self) -> pd.DataFrame:
        """Return a row a trial, by number, and a column an example, by key."""
        import pandas as pd

        numbers = pd.Index([trial.number for trial in self.trials], name="number")
        return pd.DataFrame(self.scores, index=numbers, columns=list(self.example_keys))


def heatmap(study: Experiment) -> Heatmap:
    """Read a study's scores by configuration and example; the holdout is no part of it."""
    import numpy as np

    by_key = {examples_bridge.key_of(each): each for each in study.definition.scored}
    trials = _by_row(study)
    place = {key: row for row, key in enumerate(trials)}
    columns = {key: column for column, key in enumerate(by_key)}
    sums, counts = np.zeros((2, len(trials), len(by_key)))
    for row in study.rows:
        at = place.get(_row_key(study, row.configuration_key, row.text_key)), columns.get(row.example_key)
        if None not in at:
            sums[at] += row.score
            counts[at] += 1
    scores = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    hardest = np.argsort(_ease(scores), kind="stable") if len(trials) else np.arange(0)
    keys = tuple(list(by_key)[k] for k in hardest)
    texts = tuple(_words(by_key[key]) for key in keys)
    return Heatmap(study.name, tuple(trials.values()), keys, texts, scores[:, hardest])


def _by_row(study: Experiment) -> dict[str, Trial]:
    """Return the most thorough trial of each program, best first, by what its rows are found by."""
    found: dict[str, Trial] = {}
    thorough = sorted(study.finished_trials, key=lambda trial: (trial.n_examples, trial.phase == "final"))
    for trial in thorough:
        if trial.phase != "bootstrap":
            found[trial.configuration_key] = trial
    best_first = sorted(found.values(), key=lambda trial: -trial.score)
    return {_row_key_of_trial(study, trial): trial for trial in best_first}


def _row_key(study: Experiment, configuration_key: str, text_key: str) -> str:
    return configuration_key if study.definition.is_search else text_key


def _row_key_of_trial(study: Experiment, trial: Trial) -> str:
    if study.definition.is_search:
        return trial.configuration_key
    return study.program_run(trial).text_key


def _ease(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how easy examples are, whoever was tried on them; those that nobody was tried on come last."""
    import numpy as np

    seen = np.isfinite(scores)
    means = np.where(seen, scores, 0).sum(axis=1, keepdims=True) / np.maximum(
        seen.sum(axis=1, keepdims=True), 1
    )
    gaps = np.where(seen, scores - means, 0).sum(axis=0)
    return np.where(seen.any(axis=0), gaps / np.maximum(seen.sum(axis=0), 1), np.inf)


def _words(example: object) -> str:
    text = " · ".join(str(value) for _, value in examples_bridge.input_items(example))
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


# ── where programs came from ────────────────────────────────────────────────────────────────────


class Step(NamedTuple):
    """One program in a lineage: what it is, whom it came from, and what is different about it."""

    number: int
    parent: int | None
    score: float
    n_examples: int
    is_best: bool
    changes: tuple[str, ...]
    """Lines that begin with ``-`` or ``+``, or ``name: before → after``."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The programs of a study, each with the one it came from."""

    study: str
    steps: tuple[Step, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return a row a program, by its trial's number."""
        import pandas as pd

        frame = pd.DataFrame(self.steps, columns=list(Step._fields)).set_index("number")
        return frame.astype({"parent": "Int64"})


def lineage(study: Experiment) -> Lineage:
    """Trace a study's programs: candidates of an optimizer of DSPy to their parents, gains of a search to the best before."""
    steps = _candidates(study) if study.definition.recipe is not None else _gains(study)
    return Lineage(study.name, tuple(steps))


def _candidates(study: Experiment) -> list[Step]:
    trials: dict[str, Trial] = {}
    for trial in study.finished_trials:
        before = trials.get(trial.configuration_key)
        if before is None or trial.n_examples >= before.n_examples:
            trials[trial.configuration_key] = trial
    by_key = {each.key: each for each in study.candidates if each.key in trials}
    best = study.best.configuration_key if trials else None
    steps = []
    for key, each in by_key.items():
        parent = by_key.get(each.parent or "")
        number = None if parent is None else parent.number
        changes = tuple(changed(parent, each))
        trial = trials[key]
        steps.append(Step(each.number, number, trial.score, trial.n_examples, key == best, changes))
    return steps


def changed(parent: Candidate | None, child: Candidate) -> list[str]:
    """Say what a candidate says that its parent does not, and the other way round."""
    lines = []
    for name, text in child.instructions.items():
        before = "" if parent is None else parent.instructions.get(name, "")
        diff = list(difflib.unified_diff(before.splitlines(), text.splitlines(), n=0, lineterm=""))
        # Two lines name files; a blank line between paragraphs says nothing.
        found = [line for line in diff[2:] if not line.startswith("@@") and line[1:].strip()]
        head = [f"{name}:"] if found and len(child.instructions) > 1 else []
        lines += head + found
    mine, theirs = _demos(child), set() if parent is None else _demos(parent)
    if mine != theirs:
        lines.append(f"demos: {len(theirs)} → {len(mine)}, {len(mine - theirs)} of them new")
    return lines


def _demos(candidate: Candidate) -> set[str]:
    return {f"{name} {sorted(demo.items())!r}" for name, demos in candidate.demos.items() for demo in demos}


def _gains(study: Experiment) -> list[Step]:
    best_of_all = study.best.configuration_key if study.finished_trials else None
    steps: list[Step] = []
    leader: Trial | None = None
    several, n_all = study.definition.plan is not None, len(study.definition.scored)
    for trial in study.finished_trials:
        if several and trial.n_examples < n_all:
            continue  # what an optimizer finds in its turn is scored on every example before it counts
        # The finalists are scored on other examples: they cannot continue this line.
        if trial.phase != "search" or (
            leader is not None and trial.score <= leader.score and trial.configuration_key != best_of_all
        ):
            continue
        changes = _moves({} if leader is None else leader.configuration, trial.configuration)
        parent = None if leader is None else leader.number
        is_best = trial.configuration_key == best_of_all
        steps.append(Step(trial.number, parent, trial.score, trial.n_examples, is_best, tuple(changes)))
        if leader is None or trial.score > leader.score:
            leader = trial
    return steps


def _moves(before: Configuration, after: Configuration) -> list[str]:
    if not before:
        return [f"{name}: {value}" for name, value in after.items()]
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return [f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}" for name in names]


# ── over time ───────────────────────────────────────────────────────────────────────────────────


def trajectory(study: Experiment) -> pd.DataFrame:
    """Return a row a trial, in order: what was found by when, and for how much.

    ``best_so_far`` is of the search: the finalists are scored on other examples.
    """
    import pandas as pd

    trials = _in_order(study)
    frame = pd.DataFrame(
        {
            "number": [trial.number for trial in trials],
            "phase": [trial.phase for trial in trials],
            "score": [trial.score for trial in trials],
            "n_examples": [trial.n_examples for trial in trials],
            "elapsed_s": [trial.finished_at - trials[0].started_at for trial in trials],
            "calls_so_far": [trial.usage.calls for trial in trials],
            "cost_so_far_usd": [trial.usage.cost_usd for trial in trials],
        }
    )
    frame["best_so_far"] = frame["score"].where(frame["phase"] == "search").cummax()
    for column in ("calls_so_far", "cost_so_far_usd"):
        frame[column] = frame[column].cumsum()
    return frame.set_index("number")


def allocation(study: Experiment) -> pd.DataFrame:
    """Return how many calls each trial had been given after each: a row a moment, a column a configuration, best first.

    A search that works well gives most to few.
    """
    import pandas as pd

    trials = _in_order(study)
    best_first = sorted(trials, key=lambda trial: -trial.score)
    columns = list(dict.fromkeys(trial.configuration_key for trial in best_first))
    frame = pd.DataFrame(
        0, index=pd.Index([trial.number for trial in trials], name="number"), columns=columns
    )
    for row, trial in enumerate(trials):
        frame.iloc[row, columns.index(trial.configuration_key)] = trial.usage.calls
    return frame.cumsum()


def _in_order(study: Experiment) -> Sequence[Trial]:
    return sorted(study.finished_trials, key=lambda trial: trial.finished_at)
