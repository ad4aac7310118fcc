"""A study as an experiment: what may be concluded from it, and what others need to check it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from dspex.bridge import compile as compile_bridge
from dspex.bridge import examples as examples_bridge
from dspex.bridge import identity
from dspex.errors import DataError, ExecutionError
from dspex.optimizers import archive, comparing, views
from dspex.records import ScoreKey

if TYPE_CHECKING:
    from pathlib import Path

    import dspy
    import optuna
    import pandas as pd

    from dspex.optimizers.comparing import Difference
    from dspex.optimizers.definition import Definition
    from dspex.optimizers.importance import Evaluator
    from dspex.optimizers.ledger import Ledger
    from dspex.optimizers.report import Report
    from dspex.optimizers.study import StudyState
    from dspex.optimizers.views import Heatmap, Lineage
    from dspex.records import Candidate, Configuration, Score, Trial, Usage
    from dspex.variables.space import Space


class Runnable(NamedTuple):
    """A program, its model, and what the ledger calls its configuration."""

    program: dspy.Module
    lm: dspy.BaseLM
    configuration_key: str

    @property
    def text_key(self) -> str:
        """What the ledger calls the program."""
        return identity.run_key(self.program, identity.said_by(self.program), self.lm)


class Experiment(ABC):
    """What a `Study` can say about itself once there are trials; what it knows, a study has to bring."""

    name: str
    definition: Definition
    state: StudyState
    reason: str
    _ledger: Ledger

    @property
    @abstractmethod
    def is_done(self) -> bool: ...  # noqa: D102  # a study documents what it brings

    @property
    @abstractmethod
    def is_simulated(self) -> bool: ...  # noqa: D102  # as above

    @property
    @abstractmethod
    def finished_trials(self) -> tuple[Trial, ...]: ...  # noqa: D102  # as above

    @property
    @abstractmethod
    def trials(self) -> pd.DataFrame: ...  # noqa: D102  # as above

    @property
    @abstractmethod
    def best(self) -> Trial: ...  # noqa: D102  # as above

    @property
    @abstractmethod
    def baseline(self) -> Trial | None: ...  # noqa: D102  # as above

    @property
    @abstractmethod
    def candidates(self) -> tuple[Candidate, ...]: ...  # noqa: D102  # as above

    @property
    @abstractmethod
    def notices(self) -> tuple[str, ...]: ...  # noqa: D102  # as above

    @property
    @abstractmethod
    def usage(self) -> Usage: ...  # noqa: D102  # as above

    @abstractmethod
    def program_of(self, trial: Trial) -> dspy.Module: ...  # noqa: D102  # as above

    @property
    def rows(self) -> list[Score]:
        """The ledger's rows as records; `scores` has them as a table."""
        return self._ledger.rows()

    def best_program(self) -> Runnable:
        """Return the best program, as the study runs it."""
        best, is_search = self.best, self.definition.recipe is None
        key = best.configuration_key if is_search else self.definition.default_key
        return self.runnable(self.program_of(best), key)

    def default_program(self) -> Runnable:
        """Return the program that the study began with, as the study runs it."""
        return self.runnable(self.definition.student, self.definition.default_key)

    def runnable(self, program: dspy.Module, configuration_key: str) -> Runnable:
        """Return a program as the study runs it: its rows are found by that."""
        what = self.definition
        # An optimizer of DSPy sets the model from outside; what it adds to `forward` cannot be moved.
        if what.recipe is None or "forward" in vars(program):
            return Runnable(program, what.default_lm, configuration_key)
        student, lm, _ = compile_bridge.lifted(what.student, what.default_lm)
        moved = compile_bridge.transplanted(student, identity.said_by(program))
        return Runnable(moved, lm, configuration_key)

    def example_scores(self, ran: Runnable) -> dict[str, float]:
        """Return what a program has scored on each example, the holdout included."""
        what = self.definition
        keys = [examples_bridge.key_of(each) for each in (*what.scored, *what.holdout)]
        rows = (ScoreKey(ran.text_key, ran.configuration_key, key, what.metric_key) for key in keys)
        found = (self._ledger.find(each) for each in rows)
        return {row.example_key: row.score for row in found if row is not None}

    # ── conclusions ─────────────────────────────────────────────────────────────────────────────

    @property
    def comparison(self) -> Difference:
        """How the best compares with the default: on the holdout, or for want of one where the search was.

        Raises
        ------
        DataError
            If both were scored on fewer than two examples.
        """
        return comparing.with_default(self)

    def compare(self, other: Experiment) -> Difference:
        """Compare the best with another study's, paired by the examples that both have scored."""
        return comparing.of_two(self, other)

    def importance(self, *, evaluator: Evaluator = "surrogate") -> pd.DataFrame:
        """Return how much of the differences in score each variable explains, largest first.

        Parameters
        ----------
        evaluator
            ``"surrogate"``, or one of Optuna's: ``"fanova"``, ``"ped-anova"``, ``"mdi"``.

        Raises
        ------
        DataError
            If the study searched no space, or has fewer than four configurations.
        """
        import pandas as pd

        from dspex.optimizers.importance import importance

        found = importance(self._space(), self._scored(), evaluator=evaluator, seed=self.definition.seed)
        index = pd.Index(list(found.variables), name="variable")
        return pd.DataFrame({"importance": list(found.variables.values())}, index=index)

    def interactions(self) -> pd.DataFrame:
        """Return how much pairs of variables explain beyond what both do alone, largest first."""
        import pandas as pd

        from dspex.optimizers.importance import importance

        found = importance(self._space(), self._scored(), seed=self.definition.seed).interactions
        index = pd.MultiIndex.from_tuples(list(found), names=["first", "second"])
        return pd.DataFrame({"importance": list(found.values())}, index=index)

    def _space(self) -> Space:
        if self.definition.recipe is not None or self.definition.space is None:
            raise DataError(
                f"{self.name} searched no space: {self.definition.optimizer} varies instructions and demonstrations",
                hint="study.lineage() shows what it changed",
            )
        return self.definition.space

    def _scored(self) -> list[tuple[Configuration, float]]:
        found = {
            trial.configuration_key: (trial.configuration, trial.score)
            for trial in self.finished_trials
            if trial.phase == "search"
        }
        return list(found.values())

    def report(self) -> Report:
        """Sum the study up: displays itself, and has `.markdown`, `.html` and `.save(path)`."""
        from dspex.optimizers import report

        return report.of(self)

    # ── looking ─────────────────────────────────────────────────────────────────────────────────

    def heatmap(self) -> Heatmap:
        """Return scores by configuration and example, the hardest examples first; displays itself."""
        return views.heatmap(self)

    def lineage(self) -> Lineage:
        """Return where each program came from and what was changed; displays itself."""
        return views.lineage(self)

    def trajectory(self) -> pd.DataFrame:
        """Return a row a trial: score, best so far, and calls and money up to it."""
        return views.trajectory(self)

    def allocation(self) -> pd.DataFrame:
        """Return the calls that each configuration had been given after each trial, best first."""
        return views.allocation(self)

    # ── handing on ──────────────────────────────────────────────────────────────────────────────

    def export(self, path: str | Path) -> Path:
        """Write everything that is needed to check the study into a zip; ``dspex study verify`` checks it.

        Data, ledger, trials, candidates, the best program's state, seeds, versions and hashes; no keys of
        models.

        Raises
        ------
        ExecutionError
            If the study is still running.
        """
        if not self.is_done:
            raise ExecutionError(f"{self.name} is still running", hint="study.wait(), or cancel()")
        return archive.export(self, path)

    def to_optuna(self) -> optuna.Study:
        """Return the trials as an `optuna.Study`, for ``optuna.visualization`` and everything else of Optuna's."""
        from dspex.optimizers import optuna_study

        return optuna_study.of(self)
