"""Which optimizer `optimizer="auto"` takes, and that it says why."""

from __future__ import annotations

import pytest
from spaces import SIGNATURE, TRIAGE

import dspex as dx
from dspex.optimizers.choosing import choose

SMALL = dx.Space(tone=dx.Choice(["brief", "kind"]), form=dx.Choice(["list", "text"]))
MIXED = dx.Space(temperature=dx.Float(0.0, 1.5), model=dx.Model(list(dx.sandbox.MODELS)))
LARGE = dx.Space(a=dx.Int(0, 9), b=dx.Int(0, 9))
TEXTS = dx.Space(demos=dx.Int(0, 8))
BOTH = dx.Space(temperature=dx.Float(0.0, 1.5), demos=dx.Int(0, 8))


@pytest.mark.parametrize(
    ("space", "budget", "n_examples", "temperature", "name", "reason"),
    [
        (SMALL, None, 40, None, "grid", "the budget lets all 4 configurations be tried"),
        (SMALL, dx.Budget(trials=3), 40, None, "beacon", "there are 4 configurations and 3 trials"),
        (SMALL, dx.Budget(calls=100), 40, None, "beacon", "there are 4 configurations and 2 trials"),
        (LARGE, None, 40, None, "beacon", "there are 100 configurations and 40 trials"),
        (LARGE, dx.Budget(trials=100), 40, None, "grid", "all 100 configurations"),
        (MIXED, None, 40, None, "beacon", "there are endlessly many configurations"),
        (None, None, 40, None, "simba", "the program is noisy and 40 examples suffice"),
        (None, None, 40, 1.0, "simba", "the program is noisy"),
        (None, None, 40, 0.0, "bootstrap", "at temperature 0 there is no noise"),
        (None, None, 20, None, "bootstrap", "20 examples are too few for SIMBA's batches of 32"),
        (None, dx.Budget(calls=200), 40, None, "bootstrap", "200 calls are too few"),
        (TEXTS, None, 40, None, "simba", "texts alone vary"),
        (BOTH, None, 40, None, "beacon+simba", "demos can be written anew while the rest is searched"),
        (BOTH, None, 20, None, "beacon+bootstrap", "20 examples are too few"),
        (
            BOTH,
            dx.Budget(calls=300),
            40,
            None,
            "beacon",
            "there are endlessly many configurations and 7 trials",
        ),
    ],
)
def test_the_choice_follows_from_space_budget_noise_and_data(
    space, budget, n_examples, temperature, name, reason
):
    """Small is walked through, mixed is BEACON's, noisy texts are SIMBA's, both take turns; the reason names it."""
    found = choose(space, budget, n_examples, temperature=temperature)
    assert dx.optimizers.definition.name_of(found.optimizer) == name
    assert reason in found.reason


@pytest.mark.usefixtures("runtime")
def test_a_study_says_what_was_chosen_and_why():
    """The reason is among the notices, in the repr and in what the store keeps of the end."""
    space = dx.Space(module=dx.Module(["Predict", "ChainOfThought"]))
    study = dx.optimize(
        SIGNATURE, space=space, trainset=TRIAGE.train[:8], metric=TRIAGE.metric, optimizer="auto"
    ).wait()
    reason = "grid was chosen: the budget lets all 2 configurations be tried"
    assert study.definition.optimizer == "grid"
    assert study.notices == (reason,)
    assert reason in repr(study)
    assert reason in study.reason
    assert len(study.trials) == 2


@pytest.mark.usefixtures("runtime")
def test_a_grid_tries_each_configuration_once():
    """An exhaustive search knows the best of a small space for certain."""
    space = dx.Space(module=dx.Module(["Predict", "ChainOfThought"]), model=dx.Model(list(dx.sandbox.MODELS)))
    study = dx.optimize(
        SIGNATURE, space=space, trainset=TRIAGE.train[:8], metric=TRIAGE.metric, optimizer="grid"
    ).wait()
    tried = [tuple(trial.configuration.values()) for trial in study.finished_trials]
    assert len(tried) == len(set(tried)) == space.n_configurations
    assert study.reason.startswith("every configuration was tried")


@pytest.mark.usefixtures("runtime")
def test_a_grid_refuses_what_has_no_end():
    """A number without steps cannot be walked through."""
    with pytest.raises(dx.errors.DataError, match="of these there is no end"):
        dx.optimize(SIGNATURE, space=MIXED, trainset=TRIAGE.train[:8], metric=TRIAGE.metric, optimizer="grid")
