"""The holdout: drawn once by the seed, never seen by the search, scored once it is over."""

from __future__ import annotations

import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex.bridge import examples as examples_bridge
from dspex.errors import DataError

pytestmark = pytest.mark.usefixtures("runtime")


def begin(**changes):
    given = {
        "space": SPACE,
        "trainset": TRIAGE.train[:30],
        "valset": TRIAGE.dev[:40],
        "metric": dx.metrics.exact_match,
        "budget": dx.Budget(trials=3),
        **changes,
    }
    return dx.optimize(SIGNATURE, **given)


def keys(examples):
    return {examples_bridge.key_of(each) for each in examples}


def test_the_search_never_sees_it():
    """While the search runs, no held-out example reaches the metric, and none is shown or scored."""
    seen = []

    def metric(example, prediction, trace=None):
        seen.append(example.message)
        return float(example.label == prediction.label)

    study = begin(holdout=0.25, metric=metric).wait()
    held = {example.message for example in study.definition.holdout}
    # The best and the default are scored last, on these alone.
    first = next(k for k, message in enumerate(seen) if message in held)
    assert len(held) == 10
    assert set(seen[first:]) == held
    assert len(seen[first:]) == 20
    what = study.definition
    assert not keys(what.holdout) & keys([*what.train, *what.val, *what.scored])


def test_dspys_optimizers_never_see_it(compiled):
    """The rows of a compiled study's trials are of the other examples, and demos come from those."""
    what = compiled.definition
    assert len(what.holdout) == 20
    assert not keys(what.holdout) & keys([*what.train, *what.scored])
    assert len(keys(what.scored)) == 30
    shown = {
        demo.get("message") for each in compiled.candidates for demos in each.demos.values() for demo in demos
    }
    assert not shown & {example.message for example in what.holdout}


def test_the_seed_draws_it():
    """One seed, one holdout; without a valset it is taken from the trainset."""
    one, again, other = (begin(holdout=0.5, valset=None, seed=seed) for seed in (1, 1, 2))
    drawn = [keys(each.wait().definition.holdout) for each in (one, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 15


def test_it_is_paid_for_once(compiled):
    """A second study of the same finds the rows, and what they cost is part of what a study used."""
    first = begin(holdout=TRIAGE.test[:20], name="first").wait()
    held = keys(first.definition.holdout)
    paid = sum(row.usage.calls for row in first.rows if row.example_key in held)
    assert paid >= 40
    again = begin(holdout=TRIAGE.test[:20], name="again").wait()
    assert again.usage.calls == 0
    assert again.comparison == first.comparison
    spent = sum(row.usage.calls for row in compiled.rows)
    assert compiled.usage.calls >= spent


@pytest.mark.parametrize(
    ("holdout", "message"),
    [
        (1.5, "holdout must be a share > 0 and < 1, or examples, got 1.5"),
        (True, "holdout must be a share"),
        (0.01, "leaves 0 to hold out and 40 to search with"),
        (TRIAGE.dev[:3], "3 of the others have inputs that it has too"),
        ([], "holdout must hold at least one example"),
    ],
)
def test_bad_holdouts_are_refused(holdout, message):
    """Too few, too many, and examples that the search would see are errors before anything runs."""
    with pytest.raises(DataError, match=message):
        begin(holdout=holdout)


def test_another_label_is_no_other_example():
    """An example whose inputs the search has is refused, whatever its label."""
    twin = dx.sandbox.task("triage").dev[0].toDict() | {"label": "other"}
    with pytest.raises(DataError, match="1 of the others have inputs"):
        begin(holdout=[twin, *TRIAGE.test[:3]])


def test_resuming_with_another_holdout_is_refused():
    """What was held out is part of what a study is."""
    begin(holdout=TRIAGE.test[:10], name="mine").wait()
    with pytest.raises(DataError, match="holdout was"):
        begin(holdout=TRIAGE.test[:12], name="mine", resume=True)
