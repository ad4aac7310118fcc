import math

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from dspex import sandbox
from dspex.errors import DataError
from dspex.sandbox.families import FAMILIES
from dspex.variables.base import Demos, Module
from dspex.variables.space import Space

NAMES = ("triage", "arithmetic", "extraction")
SETUPS = [
    ("small", "Predict", None, 0, "ChatAdapter"),
    ("small", "ChainOfThought", 1.2, 4, "ChatAdapter"),
    ("large", "Predict", 0.2, 8, "JSONAdapter"),
    ("medium", "ChainOfThought", 0.0, 3, "XMLAdapter"),
]


def score(task, **candidate):
    return task.optimum([candidate]).score


def rules(name):
    return " ".join(skill.statement for skill in FAMILIES[name].skills if skill.statement)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("model", "module", "temperature", "demos", "adapter"), SETUPS)
def test_sampling_surface_and_programs_agree(program_of, name, model, module, temperature, demos, adapter):
    """A real program's expected score is the surface's, and its sampled accuracy is near it."""
    task = sandbox.task(name)
    candidate = {"model": f"sandbox/{model}", "module": module, "demos": demos, "adapter": adapter}
    if temperature is not None:
        candidate["temperature"] = temperature
    program = program_of(task, module, demos)
    with dspy.context(lm=sandbox.lm(model, temperature=temperature), adapter=getattr(dspy, adapter)()):
        expected = sandbox.expected_score(program, task.dev)
        right = sum(is_right(task, program, example) for example in task.dev)
    assert expected == pytest.approx(task.optimum([candidate]).score, abs=1e-9)
    assert abs(right / 300 - expected) < 4 * math.sqrt(expected * (1 - expected) / 300)


def is_right(task, program, example):
    try:
        return task.metric(example, program(**example.inputs()))
    except AdapterParseError:
        return False


def test_instructions_reach_the_surface(program_of):
    """Rules that are stated in a program's instructions count as they do in a candidate."""
    task = sandbox.task("triage")
    text = "Sort the message.\n\n  " + rules("triage").replace(". ", ".\n")
    with dspy.context(lm=sandbox.lm("medium")):
        expected = sandbox.expected_score(program_of(task, instructions=text), task.test)
    found = task.optimum([{"model": "sandbox/medium", "instructions": text}], split="test")
    assert expected == pytest.approx(found.score, abs=1e-9)
    assert expected > score(task, model="sandbox/medium") + 0.1


@pytest.mark.parametrize(
    ("name", "default", "best"),
    [("triage", (0.35, 0.5), 0.85), ("arithmetic", (0.28, 0.4), 0.88), ("extraction", (0.5, 0.65), 0.88)],
)
def test_default_leaves_much_to_gain(name, default, best):
    """The default program is weak, and the best of a usual space is strong."""
    task = sandbox.task(name)
    space = [
        {"model": model, "module": module, "temperature": temperature, "demos": demos}
        for model in sandbox.MODELS
        for module in ("Predict", "ChainOfThought")
        for temperature in (0.0, 0.2, 0.7)
        for demos in (0, 4, 8)
    ]
    assert default[0] <= score(task) <= default[1]
    assert task.optimum(space).score >= best


@pytest.mark.parametrize("name", NAMES)
def test_larger_models_and_demonstrations_and_rules_help(name):
    """Quality grows with the model, with demonstrations, and with rules in the instructions."""
    task = sandbox.task(name)
    by_model = [score(task, model=model) for model in sandbox.MODELS]
    by_demos = [score(task, demos=demos) for demos in (0, 2, 4, 8)]
    assert by_model == sorted(by_model)
    assert by_demos == sorted(by_demos)
    assert by_demos[2] - by_demos[0] >= 0.05
    assert score(task, instructions=rules(name)) > score(task) + 0.1


def test_reasoning_helps_where_it_should():
    """Thinking first helps arithmetic much, triage somewhat, and extraction not at all."""
    gains = {}
    for name in NAMES:
        task = sandbox.task(name)
        gains[name] = score(task, module="ChainOfThought", model="large") - score(task, model="large")
    assert gains["arithmetic"] > gains["triage"] > 0.05
    assert gains["arithmetic"] > 0.2
    assert gains["extraction"] < 0


def test_temperature_is_best_low_but_not_always_zero():
    """Heat costs, and reasoning without any heat costs a little too."""
    task = sandbox.task("arithmetic")
    plain = [score(task, temperature=t) for t in (0.0, 0.3, 0.7, 1.0, 1.5)]
    assert plain == sorted(plain, reverse=True)
    assert plain[0] - plain[1] < 0.01 < plain[2] - plain[3]
    best = task.optimum({"module": "ChainOfThought", "temperature": t} for t in (0.0, 0.1, 0.2, 0.3, 0.5))
    assert 0.0 < best.configuration["temperature"] <= 0.3


def test_too_many_statements_dilute():
    """Filler sentences make the rules among them weigh less."""
    task = sandbox.task("triage")
    filler = " ".join(f"Remember point {number}." for number in range(20))
    assert (
        score(task, instructions=f"{rules('triage')} {filler}")
        < score(task, instructions=rules("triage")) - 0.05
    )


def test_wrong_demonstrations_hurt(program_of):
    """Demonstrations with wrong labels are worse than none."""
    task = sandbox.task("triage")
    program, plain = program_of(task), program_of(task)
    program.demos = [
        example.copy(label="account") for example in task.train[:8] if example.label != "account"
    ]
    with dspy.context(lm=sandbox.lm("medium")):
        assert sandbox.expected_score(program, task.dev) < sandbox.expected_score(plain, task.dev) - 0.05


def test_optimum_asks_a_space_for_its_candidates():
    """Anything with candidates() is a space."""

    class Lister:
        def candidates(self):
            yield from ({"demos": demos} for demos in range(3))

    assert sandbox.task("extraction").optimum(Lister()).configuration == {"demos": 2}


def test_optimum_keeps_to_what_is_frozen_in_a_space():
    """A frozen variable is not searched, and counts all the same."""
    task = sandbox.task("arithmetic")
    space = Space(module=Module(["Predict", "ChainOfThought"]), demos=Demos(0, 2))
    free, frozen = task.optimum(space), task.optimum(space.freeze(module="Predict"))
    assert free.configuration["module"] == "ChainOfThought"
    assert frozen.configuration["module"] == "Predict"
    assert frozen.score < free.score - 0.1


@pytest.mark.parametrize("candidate", [{"top_p": 1}, {"module": "ReAct"}, {"adapter": "BAMLAdapter"}])
def test_optimum_refuses_what_it_cannot_know(candidate):
    """A candidate with an unknown variable or module is an error, not a guess."""
    with pytest.raises(DataError, match="knows no truth"):
        sandbox.task("triage").optimum([candidate])


def test_optimum_of_nothing_is_refused():
    """No candidates, no optimum."""
    with pytest.raises(DataError, match="at least one candidate"):
        sandbox.task("triage").optimum([])


def test_expected_score_needs_a_simulated_model():
    """A program that asks no simulated model has no known truth."""
    with pytest.raises(DataError, match="made none"):
        sandbox.expected_score(lambda message: message, sandbox.task("triage").dev[:1])
    with pytest.raises(DataError, match="at least one example"):
        sandbox.expected_score(lambda message: message, [])


def test_two_calls_multiply(program_of):
    """A program that needs two right answers is worth the product."""
    task = sandbox.task("triage")
    once = program_of(task)

    def twice(message):
        once(message=message)
        return once(message=message)

    with dspy.context(lm=sandbox.lm("small")):
        alone = sandbox.expected_score(once, task.dev[:1])
        assert sandbox.expected_score(twice, task.dev[:1]) == pytest.approx(alone**2)


def test_answers_that_are_cut_off_count_as_wrong(program_of):
    """With too few tokens for the answer, the truth is zero."""
    task = sandbox.task("triage")
    with dspy.context(lm=sandbox.lm("large", max_tokens=6)):
        assert sandbox.expected_score(program_of(task, "ChainOfThought"), task.dev[:3]) == 0.0
