"""Everything wrong about a study is said before anything runs."""

from __future__ import annotations

import dspy
import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex.errors import DataError, DefinitionError

pytestmark = pytest.mark.usefixtures("runtime")


def text_metric(example, prediction, trace=None):
    return "good"


def raising_metric(example, prediction, trace=None):
    raise KeyError("colour")


def nan_metric(example, prediction, trace=None):
    return float("nan")


def none_metric(example, prediction, trace=None):
    return None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainset": []}, r"trainset must hold at least one example, got none"),
        ({"trainset": ["hello"]}, r"trainset\[0\] must be a dspy.Example or a dict, got str"),
        (
            {"trainset": [{"text": "a", "label": "b"}]},
            r"trainset\[0\] lacks the input 'message'; it has text, label",
        ),
        ({"valset": []}, r"valset must hold at least one example, got none"),
        ({"trainset": TRIAGE.train[:1]}, r"demos and scoring need different examples, the trainset has 1"),
        ({"metric": text_metric}, r"a metric must return a number or a bool, text_metric returned 'good'"),
        ({"metric": none_metric}, r"none_metric returned None"),
        ({"metric": nan_metric}, r"nan_metric returned nan"),
        ({"metric": raising_metric}, r"raising_metric cannot score a perfect prediction: KeyError: 'colour'"),
        ({"metric": "exact_match"}, r"a metric must be callable, got 'exact_match'"),
        ({"optimizer": "simbad"}, r"unknown optimizer 'simbad'; known: beacon, better_together"),
        (
            {"space": dx.Space(tone=dx.Bool())},
            r"Predict has none of tone; it can vary adapter, demos, instructions",
        ),
        ({"space": dx.Space(model=dx.Model(["sandbox/smal"]))}, r"did you mean 'sandbox/small'"),
        ({"space": dx.Space(model=dx.Model(["gpt-4o"]))}, r"a model is written provider/name, got 'gpt-4o'"),
    ],
)
def test_bad_input_is_an_error_before_any_work(runtime, changes, message):
    """The rule, the values and the next step; and not one call was made."""
    given = {"space": SPACE, "trainset": TRIAGE.train, "metric": dx.metrics.exact_match, **changes}
    with pytest.raises(DefinitionError, match=message) as caught:
        dx.optimize(SIGNATURE, **given)
    assert caught.value.hint
    assert runtime.runs().empty
    assert runtime.studies == {}


@pytest.mark.parametrize(
    "limits", [{"trials": 0}, {"usd": -1.0}, {"seconds": 0}, {"calls": 0}, {"trials": True}]
)
def test_a_budget_of_nothing_is_refused(limits):
    """Each limit is a number above zero."""
    with pytest.raises(DataError, match="must be a number > 0"):
        dx.Budget(**limits)


def test_a_metric_that_works_on_some_examples_is_accepted():
    """Only a metric that scores none of the examples tried is wrong beforehand."""
    calls = []

    def moody(example, prediction, trace=None):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        return 1.0

    study = dx.optimize(
        SIGNATURE, space=SPACE, trainset=TRIAGE.train[:20], metric=moody, budget=dx.Budget(trials=1)
    )
    assert study.wait().best.score == 1.0


def test_a_program_attribute_is_a_variable():
    """A number or text on the program itself can be searched by its name."""

    class Cut(dspy.Module):
        def __init__(self):
            super().__init__()
            self.length = 10_000
            self.label = dspy.Predict(SIGNATURE.to_dspy())

        def forward(self, message):
            return self.label(message=message[: self.length])

    study = dx.optimize(
        Cut(),
        space=dx.Space(length=dx.Choice([10_000, 5])),
        trainset=TRIAGE.train[:30],
        metric=dx.metrics.exact_match,
    ).wait()
    scores = study.trials.set_index("length")["score"]
    assert scores[10_000] > scores[5]
    assert study.program.length == 10_000


def test_a_demo_is_never_scored():
    """With a valset that overlaps the trainset, no shown example is among the scored ones."""
    study = dx.optimize(
        SIGNATURE,
        space=SPACE,
        trainset=TRIAGE.train[:30],
        valset=TRIAGE.train[:20],
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=1),
    ).wait()
    bound = study.definition.bind({**SPACE.default(), "demos": 8})
    shown = {demo.message for demo in bound.predictors()[0].demos}
    assert len(shown) == 8
    assert not shown & {example.message for example in study.definition.scored}


def test_every_part_of_a_space_reaches_the_program():
    """Frozen, conditional and proposed values are bound, demos are picked as they say, and composites are not."""
    asked = []

    def propose(program, examples):
        asked.append((type(program).__name__, len(examples)))
        return ["Label it. Think twice."]

    space = dx.Space(
        model=dx.Model(["sandbox/small", "sandbox/large"]),
        module=dx.Module(["Predict", "ChainOfThought"]),
        temperature=dx.Temperature(0, 1, default=0.25).given(module="Predict"),
        instructions=dx.Instruction(proposer=propose),
        demos=dx.Demos(2, 4, choose="balanced", by="label"),
        effort=dx.Composite("demos * 2"),
        constraints=["effort < 9"],
        frozen={"model": "sandbox/large"},
    )
    study = dx.optimize(
        SIGNATURE,
        space=space,
        trainset=TRIAGE.train,
        metric=dx.metrics.exact_match,
        optimizer="random",
        budget=dx.Budget(trials=6),
    ).wait()
    definition = study.definition
    assert asked == [("Predict", len(TRIAGE.train))]
    assert definition.space["instructions"].grid(1) == [None, "Label it. Think twice."]
    assert definition.models == ["sandbox/large"]
    assert all(
        "temperature" in trial.configuration
        for trial in study.finished_trials
        if trial.configuration["module"] == "Predict"
    )
    chosen = {"module": "Predict", "temperature": 0.5, "instructions": "Label it. Think twice.", "demos": 2}
    program = definition.bind(chosen)
    assert (program.lm.model, program.lm.kwargs["temperature"]) == ("sandbox/large", 0.5)
    assert program.signature.instructions == "Label it. Think twice."
    assert len({demo.label for demo in program.demos}) == 2
    without = definition.bind({"module": "ChainOfThought", "instructions": None, "demos": 2})
    assert (
        without.predictors()[0].signature.instructions
        == definition.bind(definition.space.default()).predictors()[0].signature.instructions
    )


def test_a_set_of_demos_is_shown_as_it_is():
    """Examples of the space's own are shown, and the whole trainset is scored."""
    shown = {"message": "Where is my refund?", "label": "billing"}
    space = dx.Space(demos=dx.DemoSet({"none": [], "one": [dspy.Example(**shown)]}))
    study = dx.optimize(
        SIGNATURE,
        space=space,
        trainset=TRIAGE.train,
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=2),
    ).wait()
    assert len(study.definition.scored) == len(TRIAGE.train)
    assert [dict(demo) for demo in study.definition.bind({"demos": "one"}).demos] == [shown]
