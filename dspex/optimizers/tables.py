"""A study's tables: its trials, its ledger, and what each of several optimizers gained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from dspex.records import Score, Stint, Trial


def of_trials(trials: Iterable[Trial]) -> pd.DataFrame:
    """Return a row a trial, by number: what came of it, and each variable."""
    import pandas as pd

    rows = [
        {
            "number": trial.number,
            "phase": trial.phase,
            "score": trial.score,
            "n_examples": trial.n_examples,
            "n_failed": trial.n_failed,
            "calls": trial.usage.calls,
            "cost_usd": trial.usage.cost_usd,
            "latency_s": trial.usage.latency_s,
            **trial.configuration,
        }
        for trial in trials
    ]
    return pd.DataFrame(rows).set_index("number") if rows else pd.DataFrame()


def of_scores(scores: Iterable[Score]) -> pd.DataFrame:
    """Return a row for each program and example."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "configuration": score.configuration_key,
                "program": score.text_key,
                "example": score.example_key,
                "repetition": score.repetition,
                "score": score.score,
                "feedback": score.feedback,
                "cost_usd": score.usage.cost_usd,
                "latency_s": score.usage.latency_s,
                "error": score.error,
            }
            for score in scores
        ]
    )


def of_gains(stints: Iterable[Stint]) -> pd.DataFrame:
    """Return a row for each turn of an optimizer that gained something."""
    import pandas as pd

    columns = ["by", "round", "from", "to", "calls", "cost_usd"]
    rows = [
        (stint.optimizer, stint.round, stint.before, stint.after, stint.usage.calls, stint.usage.cost_usd)
        for stint in stints
        if stint.after > stint.before
    ]
    return pd.DataFrame(rows, columns=columns)
