"""BEACON's options: each is checked, kept, and changes what a study does."""

from __future__ import annotations

import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex.errors import DataError, UnknownNameError
from dspex.events import TrialStarted
from dspex.optimizers import Beacon, Goal, search_named

pytestmark = pytest.mark.usefixtures("runtime")


def begin(optimizer, **changes):
    given = {
        "space": SPACE,
        "trainset": TRIAGE.train,
        "valset": TRIAGE.dev[:40],
        "metric": dx.metrics.exact_match,
        "budget": dx.Budget(trials=8),
        **changes,
    }
    return dx.optimize(SIGNATURE, optimizer=optimizer, **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aquisition": "ei"}, "did you mean 'acquisition'"),
        ({"acquisition": "eii"}, "unknown acquisition 'eii'"),
        ({"goal": "cheap"}, "a goal is a Goal, got 'cheap'"),
        ({"batch": 0}, "BEACON's batch must be a whole number > 0, got 0"),
        ({"parallel": 1.5}, "BEACON's parallel must be a whole number > 0, got 1.5"),
    ],
)
def test_wrong_options_are_errors(options, message):
    """The rule and the values, before any study."""
    with pytest.raises((UnknownNameError, DataError), match=message):
        Beacon(**options)


def test_a_goal_that_the_acquisition_cannot_serve_is_refused_before_any_work(runtime):
    """Expected improvement knows quality alone."""
    with pytest.raises(DataError, match="knows quality alone"):
        begin(Beacon(acquisition="ei", goal=Goal(("cost_usd",), quality_at_least=0.5)))
    assert runtime.runs().empty


@pytest.mark.parametrize(
    "options",
    [
        {"acquisition": "ei"},
        {"acquisition": "ucb"},
        {"batch": 3},
        {"parallel": 2},
        {"likelihood": "gaussian"},
        {"cost_aware": True},
        {"prior": lambda configuration: 1e6 if configuration["demos"] > 4 else 1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_each_option_changes_the_search(runtime, options):
    """One seed, and another sequence of configurations or numbers of examples than by default."""
    began = {}

    def note(event):
        if isinstance(event, TrialStarted):
            began.setdefault(event.study, []).append((event.configuration, event.n_examples))

    runtime.events.subscribe(note)
    plain, other = begin("beacon").wait(), begin(Beacon(**options)).wait()
    assert began[plain.name] != began[other.name]


def test_options_are_part_of_what_a_study_is():
    """A resumed study with other options says what differs."""
    begin(Beacon(batch=4), name="mine").wait()
    with pytest.raises(DataError, match="options was"):
        begin(Beacon(batch=5), name="mine", resume=True)


def test_the_cheapest_that_is_good_enough_is_chosen():
    """With a least quality and cost as the objective, what is used is good enough, and no such finalist costs less."""
    goal = Goal(("cost_usd",), quality_at_least=0.6)
    study = begin(Beacon(goal=goal), budget=dx.Budget(trials=20)).wait()
    costs = study.scores.query("cost_usd > 0").groupby("configuration")["cost_usd"].mean()
    most = max(trial.n_examples for trial in study.finished_trials)
    good = [trial for trial in study.finished_trials if trial.n_examples == most and trial.score >= 0.6]
    assert study.best in good
    assert costs[study.best.configuration_key] == min(costs[trial.configuration_key] for trial in good)


def test_a_front_of_quality_and_cost():
    """With two objectives every trial on the front is better than each other one in something."""
    study = begin(Beacon(goal=Goal(("quality", "cost_usd"))), budget=dx.Budget(trials=20)).wait()
    front = study.pareto
    assert len(front) >= 2
    assert len({trial.configuration["model"] for trial in front}) >= 2
    assert {trial.number for trial in front} <= {trial.number for trial in study.finished_trials}


def test_a_warm_start_pays_for_nothing_that_is_known():
    """A second study begins with what the first has scored of the same programs, and starts where that ended."""
    first = begin("beacon", seed=1).wait()
    warm = begin(Beacon(warm_start=True), seed=1, budget=dx.Budget(trials=1)).wait()
    columns = ["configuration", "example"]
    scored = [study.scores[study.scores["error"].isna()][columns] for study in (first, warm)]
    assert {*scored[0].itertuples(index=False)} <= {*scored[1].itertuples(index=False)}
    assert warm.best.score >= first.best.score - 0.1
    assert warm.usage.calls < first.usage.calls


def test_the_recommendation_says_how_sure_it_is():
    """Mean and spread, the chance that nothing is better, and a bound; other searches cannot say."""
    study = begin("beacon").wait()
    found = study.recommendation
    SPACE.check(found.configuration)
    assert 0 <= found.probability_best <= 1
    assert 0 < found.sd < 0.2
    assert found.regret_bound >= 0
    assert abs(found.mean - study.best.score) < 0.15
    assert begin("random").wait().recommendation is None


def test_an_unknown_search_names_the_nearest():
    """A misspelt name is an error with a suggestion."""
    with pytest.raises(UnknownNameError, match="did you mean 'tpe'"):
        search_named("tpee", SPACE, 0)
