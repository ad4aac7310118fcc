"""One optimizer's share of a study: the common ledger and trials, and of both what is its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dspex.optimizers.ledger import Ledger
from dspex.optimizers.trials import Trials
from dspex.records import ScoreKey, Trial, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex.events import EventBus
    from dspex.records import Configuration, Score, TrialPhase
    from dspex.store import Store


class Share(Ledger):
    """A ledger that reads and writes the common one, and counts the rows that are paid for here.

    Parameters
    ----------
    whole
        The study's.
    claimed
        The rows that somebody pays for in this run. One of an earlier run counts for whoever first asks for
        it, so that a resumed study divides its budget as before.
    """

    def __init__(self, whole: Ledger, study: str, store: Store, claimed: set[ScoreKey]) -> None:
        super().__init__(study, store, whole.metric_key)
        self._whole, self._claimed = whole, claimed
        self.spent = Usage()

    def find(self, key: ScoreKey) -> Score | None:
        """Return the row, whoever has paid for it."""
        return self._whole.find(key)

    def find_all(
        self, text_key: str, configuration_key: str, example_keys: Sequence[str]
    ) -> dict[str, Score]:
        """Return the rows of a program, whoever has paid for them."""
        found = self._whole.find_all(text_key, configuration_key, example_keys)
        for row in found.values():
            self._claim(row)
        return found

    def took(self, row: Score) -> Usage:
        """Return what an evaluation took, whoever paid for it."""
        return self._whole.took(row)

    def add(self, score: Score) -> bool:
        """Keep a row for everybody."""
        is_new = self._whole.add(score)
        self._claim(score)
        return is_new

    def _claim(self, row: Score) -> None:
        with self._lock:
            if row.key not in self._claimed:
                self._claimed.add(row.key)
                self._scores[row.key] = row
                self.spent += row.usage


class StintTrials(Trials):
    """Trials that are kept among the study's, and here too.

    Parameters
    ----------
    whole
        The study's.
    key_of
        Names a program among all that the study has tried, given its name in this turn.
    labels
        The configuration that the turn leaves as it is.
    """

    def __init__(
        self,
        whole: Trials,
        study: str,
        store: Store,
        events: EventBus,
        *,
        key_of: Callable[[str], str],
        labels: Configuration,
    ) -> None:
        super().__init__(study, store, events)
        self._whole, self._key_of, self._labels = whole, key_of, labels
        self.own_keys: dict[str, str] = {}
        """What this turn calls each program, by its name in the study."""

    def begin(self, configuration: Configuration, key: str, phase: TrialPhase, n_examples: int) -> int:
        """Give a trial its number in the study and announce it."""
        told, common = {**self._labels, **configuration}, self._key_of(key)
        self.own_keys[common] = key
        return self._whole.begin(told, common, _common(phase), n_examples)

    def number(self, key: str, phase: TrialPhase) -> int:
        """Return a trial's number in the study."""
        return self._whole.number(self._key_of(key), _common(phase))

    def scored(self, number: int, score: Score) -> None:
        """Announce a row of a running trial."""
        self._whole.scored(number, score)

    def finish(self, trial: Trial) -> Trial:
        """Keep a trial in the study and here."""
        known = self._whole.known(trial.number)
        # Others may have scored the same program on more examples: what is known is never less than it was.
        if known is None or known.n_examples <= trial.n_examples:
            known = replace(
                trial,
                configuration={**self._labels, **trial.configuration},
                configuration_key=self._key_of(trial.configuration_key),
                phase=_common(trial.phase),
            )
        self._whole.finish(known)
        with self._lock:
            self._finished[trial.number] = trial
        return trial


def _common(phase: TrialPhase) -> TrialPhase:
    """Return the phase in the study: what is final in a turn is one more step of the search."""
    return "search" if phase == "final" else phase
