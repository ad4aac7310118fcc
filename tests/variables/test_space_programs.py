"""A space makes programs run as its configurations say."""

from __future__ import annotations

import dspy
import pytest

import dspex as dx
from dspex.errors import UnknownNameError, VariableError

TRIAGE = dx.sandbox.task("triage")


class Two(dspy.Module):
    """Reads, then decides."""

    def __init__(self):
        super().__init__()
        self.read = dspy.Predict("message -> gist")
        self.decide = dspy.Predict(dspy.Signature(TRIAGE.signature, TRIAGE.instructions))
        self.k = 3

    def forward(self, message):
        self.read(message=message)
        return self.decide(message=message)


def test_apply_resolves_labels_and_leaves_the_program_alone(runtime):
    """Models and modules by label, a number of examples as demos."""
    space = dx.Space(
        model=dx.Model(["sandbox/small", "sandbox/large"]),
        module=dx.Module(["Predict", "ChainOfThought"]),
        demos=dx.Int(0, 8),
        **{"decide.temperature": dx.Float(0, 1), "adapter": dx.Choice(["chat", "json"])},
    )
    made = Two()
    configuration = {
        "model": "sandbox/large",
        "module": "ChainOfThought",
        "demos": 2,
        "decide.temperature": 0.25,
        "adapter": "json",
    }
    bound = space.apply(made, configuration, examples=TRIAGE.train)
    assert {each.lm.model for each in bound.predictors()} == {"sandbox/large"}
    assert bound.decide.predict.lm.kwargs["temperature"] == 0.25
    assert [demo.message for demo in bound.decide.predict.demos] == [
        each.message for each in TRIAGE.train[:2]
    ]
    assert "label" in bound(message=TRIAGE.dev[0].message)
    assert type(made.decide) is dspy.Predict
    with space.applied(made, configuration, lm=dx.lm, examples=TRIAGE.train) as changed:
        assert changed is made
        assert isinstance(made.decide, dspy.ChainOfThought)
    assert type(made.decide) is dspy.Predict


def test_apply_refuses_what_does_not_fit():
    """The space checks the values, the program the names."""
    space = dx.Space(temperature=dx.Float(0, 1), tempo=dx.Int(1, 3))
    with pytest.raises(VariableError, match=r"temperature must be in \[0, 1\], got 3"):
        space.apply(Two(), {"temperature": 3, "tempo": 1})
    with pytest.raises(UnknownNameError, match="Two has none of tempo"):
        space.apply(Two(), {"temperature": 0.3, "tempo": 1})


def test_an_inferred_space_can_be_applied_and_searched(runtime):
    """Whatever it draws, the program runs that way."""
    space = dx.Space.infer(Two(), models=["sandbox/small", "sandbox/large"], each_part=True)
    assert space.default() == {
        "read.temperature": 0.7,
        "read.model": "sandbox/small",
        "read.module": "Predict",
        "read.demos": 0,
        "decide.temperature": 0.7,
        "decide.model": "sandbox/small",
        "decide.module": "Predict",
        "decide.demos": 0,
        "adapter": "chat",
        "k": 3,
    }
    study = dx.optimize(
        Two(),
        space=space,
        trainset=TRIAGE.train[:30],
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=3),
        optimizer="random",
    ).wait()
    assert len(study.trials) >= 3
    assert study.program.k in range(1, 7)


def test_a_study_searches_each_parts_model(runtime):
    """Two parts, two models: both are chosen by name, and the best program asks both."""
    names = ["sandbox/small", "sandbox/large"]
    space = dx.Space(**{"read.model": dx.Model(names), "decide.model": dx.Model(names)})
    study = dx.optimize(
        Two(),
        space=space,
        trainset=TRIAGE.train[:60],
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=4),
    ).wait()
    best = study.best.configuration
    assert [each.lm.model for each in study.program.predictors()] == [
        best["read.model"],
        best["decide.model"],
    ]
    assert best["decide.model"] == "sandbox/large"
    assert set(study.definition.models) == set(names)


def test_a_studys_program_survives_a_file(runtime, tmp_path):
    """Saved with DSPy's own `save`, loaded onto the program it came from."""
    space = dx.Space(
        module=dx.Module(["ChainOfThought"]), adapter=dx.Choice(["json"]), temperature=dx.Float(0, 1)
    )
    study = dx.optimize(
        Two(),
        space=space,
        trainset=TRIAGE.train[:30],
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=1),
    ).wait()
    study.program.save(tmp_path / "best.json")
    loaded = dx.Space.load(Two(), tmp_path / "best.json", allow_unsafe_lm_state=True)
    assert loaded.dspex.values["temperature"] == study.best.configuration["temperature"]
    message = TRIAGE.dev[3].message
    assert loaded(message=message).label == study.program(message=message).label


def test_a_name_that_only_another_module_has_is_refused_beforehand(runtime):
    """A variable has to be there with every module that the space may choose."""

    class Cutting(dspy.Module):
        def __init__(self, signature):
            super().__init__()
            self.length = 5
            self.label = dspy.Predict(signature)

        def forward(self, message):
            return self.label(message=message[: self.length])

    space = dx.Space(module=dx.Module(["Predict", Cutting]), length=dx.Int(1, 9))
    with pytest.raises(UnknownNameError, match="Predict has none of length"):
        dx.optimize(TRIAGE.signature, space=space, trainset=TRIAGE.train[:30], metric=dx.metrics.exact_match)
    only = dx.Space(module=dx.Module([Cutting]), length=dx.Int(1, 9))
    bound = only.apply(dspy.Predict(TRIAGE.signature), {"module": "Cutting", "length": 7})
    assert bound.length == 7


class Blunt(dspy.Module):
    """Says the same whatever it reads."""

    def __init__(self, signature):
        super().__init__()
        self.label = dspy.Predict(signature)

    def forward(self, message):
        return self.label(message="hello")


class Hasty(Blunt):
    """Reads only the first words."""

    def forward(self, message):
        return self.label(message=message[:25])


@pytest.mark.parametrize("optimizer", ["beacon", "random"])
def test_the_best_of_three_modules_is_found(runtime, optimizer):
    """Three modules of known quality, one of the user's own: the right one in at least 9 of 10 seeds."""
    space = dx.Space(module=dx.Module([Blunt, Hasty, dspy.Predict]))
    found = [
        dx.optimize(
            TRIAGE.signature,
            space=space,
            trainset=TRIAGE.train[:40],
            metric=dx.metrics.exact_match,
            optimizer=optimizer,
            budget=dx.Budget(trials=8),
            seed=seed,
        )
        .wait()
        .best.configuration["module"]
        for seed in range(10)
    ]
    assert found.count("Predict") >= 9
