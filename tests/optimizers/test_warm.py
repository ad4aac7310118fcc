"""Warm starts: a study begins where an earlier one ended."""

from __future__ import annotations

import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex.errors import DataError, UnknownNameError

pytestmark = pytest.mark.usefixtures("runtime")


def begin(**changes):
    given = {
        "space": SPACE,
        "trainset": TRIAGE.train,
        "valset": TRIAGE.dev[:40],
        "metric": dx.metrics.exact_match,
        "budget": dx.Budget(trials=5),
        **changes,
    }
    return dx.optimize(SIGNATURE, **given)


@pytest.mark.parametrize("by_name", [True, False])
def test_the_earlier_best_is_tried_first_and_costs_nothing(by_name):
    """Its configuration is the first trial, paid for already, and the result is never worse."""
    earlier = begin(name="earlier").wait()
    study = begin(warm_start="earlier" if by_name else earlier, budget=dx.Budget(trials=3)).wait()
    first = study.finished_trials[0]
    assert first.configuration == earlier.best.configuration
    assert first.usage.calls == 0
    assert study.best.score >= earlier.best.score


def test_other_spaces_take_over_what_they_share():
    """Variables of both begin with the earlier values, the others with their own default."""
    earlier = begin().wait()
    space = dx.Space(demos=dx.Int(0, 8), top_p=dx.Float(0.1, 1.0, default=0.5))
    first = begin(space=space, warm_start=earlier, budget=dx.Budget(trials=1)).wait().finished_trials[0]
    assert first.configuration == {"demos": earlier.best.configuration["demos"], "top_p": 0.5}


def test_dspys_optimizers_begin_with_the_earlier_program():
    """Without a space, the student is the earlier study's best program."""
    earlier = begin().wait()
    study = begin(space=None, optimizer="labeled", warm_start=earlier).wait()
    assert study.definition.student.predictors()[0].lm.model == earlier.best.configuration["model"]


def test_what_cannot_be_taken_over_says_why():
    """An unknown name, a space with nothing in common, and a name without a space."""
    earlier = begin(name="earlier", budget=dx.Budget(trials=1)).wait()
    with pytest.raises(UnknownNameError, match="unknown study 'earlie'"):
        begin(warm_start="earlie")
    with pytest.raises(DataError, match="nothing is shared"):
        begin(space=dx.Space(top_p=dx.Float(0.1, 1.0)), warm_start=earlier)
    with pytest.raises(DataError, match="warm_start by name needs a space"):
        begin(space=None, optimizer="labeled", warm_start="earlier")
