import dspy
import pytest

import dspex as dx
from dspex.errors import VariableError
from dspex.variables.base import Bool, Choice, Float, Int, Model, Module
from dspex.variables.space import Space

EXAMPLE = """
# what may vary
temperature: float = 0.0 .. 1.5 (default 0.7)
penalty:     float = 0.001 .. 1 (log)   # small ones matter
demos:       int = 0 .. 8 (step 2)
model:       model = sandbox/small | sandbox/large
module:      module = Predict | ChainOfThought
tone:        choice = brief | "to the point"
strict:      bool (default true)
"""


def test_every_kind_is_read():
    """The grammar's own example gives the variables that it describes."""
    space = Space.parse(EXAMPLE)
    assert dict(space) == {
        "temperature": Float(0.0, 1.5, default=0.7),
        "penalty": Float(0.001, 1.0, log=True),
        "demos": Int(0, 8, step=2),
        "model": Model(["sandbox/small", "sandbox/large"]),
        "module": Module(["Predict", "ChainOfThought"]),
        "tone": Choice(["brief", "to the point"]),
        "strict": Bool(default=True),
    }
    assert space["module"].resolve("ChainOfThought") is dspy.ChainOfThought


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x: float = 0 .. 1", Float(0, 1)),
        ("x:float=0..1", Float(0, 1)),
        ("  x : float = -1.5 .. 1e3  ", Float(-1.5, 1000)),
        ("x: float = 0 .. 1 (step 0.25, default 0.5)", Float(0, 1, step=0.25, default=0.5)),
        ("x: int = -3 .. 3 (default 0)", Int(-3, 3, default=0)),
        ("x: int = 1 .. 100 (log, default 10)", Int(1, 100, log=True, default=10)),
        ("x: bool", Bool()),
        ("x: bool (default False)", Bool(default=False)),
        ("x: choice = a", Choice(["a"])),
        ("x: choice = a | b (default b)", Choice(["a", "b"], default="b")),
        (
            'x: choice = "a" | \'to the point\' (default "to the point")',
            Choice(["a", "to the point"], default="to the point"),
        ),
        ("x: module = dspy:Predict", Module(["dspy:Predict"])),
        ('x: choice = "C# | F#" | "none"', Choice(["C# | F#", "none"])),
        ('x: choice = "a (b)" | c', Choice(["a (b)", "c"])),
    ],
)
def test_one_line(line, expected):
    """A line says name, kind, values and options, with as much space as one likes; quotes keep what they hold."""
    assert Space.parse(line)["x"] == expected


def test_all_failures_are_listed_with_their_lines():
    """Every line that cannot be read is shown with its number, its text and what is wrong."""
    with pytest.raises(VariableError) as caught:
        Space.parse(
            "temperature: flot = 0 .. 1\n"
            "\n"
            "demos: int = 8 .. 0  # upside down\n"
            "tone: choice\n"
            "top_p: float = 0 .. 1\n"
            "top_p: float = 0 .. 2\n"
            "what is this\n"
        )
    assert str(caught.value) == (
        "this space cannot be read:\n"
        "  - line 1, 'temperature: flot = 0 .. 1': a kind is one of adapter, "
        "batch_size, bool, choice, composite, confidence, cost, demos, embedding, float, instruction, int, latency, "
        "model, module, penalty, probability, temperature, tensor, token_count, top_p, got 'flot' (did you mean 'float'?)\n"
        "  - line 3, 'demos: int = 8 .. 0': low must be < high, got low=8, high=0 (swap them?)\n"
        "  - line 4, 'tone: choice': a choice needs values after '=' (tone: choice = ...)\n"
        "  - line 6: top_p is there already\n"
        "  - line 7, 'what is this': a line is 'name: kind = values (options)' (temperature: float = 0 .. 1.5)"
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x", "a line is 'name: kind = values (options)'"),
        ("1x: int = 0 .. 1", "a line is 'name: kind = values (options)'"),
        ("x: int = 0 .. 1 (default 0", "a line is 'name: kind = values (options)'"),
        ("x: int", "a int needs values after '='"),
        ("x: int = 5", "a range is 'low .. high', got '5'"),
        ("x: float = 0 - 1", "a range is 'low .. high', got '0 - 1'"),
        ("x: int = 0 .. 8.5", "not a whole number: "),
        ("x: float = a .. b", "not a number: "),
        ("x: float = 0 .. 1e999", "high must be a finite number, got inf"),
        ("x: float = 0 .. 1 (default 2)", "the default must be in [0, 1], got 2"),
        ("x: float = 0 .. 1 (default)", "the option default needs a value, got 'default'"),
        ("x: float = 0 .. 1 (log)", "a log scale needs low > 0, got low=0"),
        ("x: float = 0 .. 1 (lag)", "an option of a float is default or log or prior or step, got 'lag'"),
        ("x: bool (default maybe)", "a bool's default is true or false, got 'maybe'"),
        ("x: choice = a | a", "options must differ, got a more than once"),
        ("x: choice = a | b (default c)", "the default must be one of 'a', 'b', got 'c'"),
        ("x: module = Predikt", "every option must be a module:"),
        ("x: choice = a | | b", ""),
        ("x: model = ", "a model needs values after '='"),
        # What would have no effect is refused rather than ignored.
        ("x: bool = true", ""),
        ("x: bool (step 2)", ""),
        ("x: choice = a | b (log)", ""),
        ("x: model = a/b (step 3)", ""),
        ("x: float = 0.1 .. 1 (log false)", ""),
        ("x: float = 0 .. 1 (default 0.1, default 0.2)", ""),
    ],
)
def test_bad_lines(line, problem):
    """A line that cannot be read, or says something without effect, is refused with its text and the rule."""
    with pytest.raises(VariableError) as caught:
        Space.parse(line)
    assert str(caught.value).startswith(
        f"this space cannot be read:\n  - line 1, {line.strip()!r}: {problem}"
    )


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment"])
def test_nothing_is_no_space(text):
    """A text without a variable is refused as an empty space is."""
    with pytest.raises(VariableError, match="a space needs at least one variable, got none"):
        Space.parse(text)


# ── conditions, rules, and the other kinds ──────────────────────────────────────────────────────

WHOLE = """
temperature: temperature = 0 .. 1.5 (default 0.7)
penalty: float = 0.001 .. 1 (log, prior 0.01 1.5)
tokens: token_count = 16 .. 4096 (linear, step 16)   # the kind is logarithmic
top_p: top_p
model: model = sandbox/small | sandbox/large
plan.module: module = Predict | ChainOfThought | dspy:ReAct (weights 3 2 1)
size: choice = small | medium | "very large" (ordered, default medium)
strict: bool (default true)
instructions: instruction = "Be brief, and kind." | 'Say "yes" or "no".' (default "Be brief, and kind.")
format: adapter = chat | json
shown: demos = 0 .. 8 (choose balanced, by label, seed 3)
n: int = 1 .. 5 (default 2) when plan.module = dspy:ReAct | ChainOfThought and strict = true
direction: embedding = 8 (normalised, rank 2, seed 4) when n = 2 | 3
grid: tensor = 2 x 3 (dtype int, low 0, high 9)
effort: composite = n * (shown + 1)
require effort <= 12
require "small models stay cool": model != "sandbox/small" or temperature < 1
freeze top_p = 0.9
freeze format = json
"""


def test_a_whole_space_is_read():
    """Kinds, conditions, composites, rules and frozen values give the space that they describe."""
    space = Space.parse(WHOLE)
    assert space == Space(
        {
            "temperature": dx.Temperature(0, 1.5, default=0.7),
            "penalty": Float(0.001, 1, log=True, prior=dx.Normal(0.01, 1.5)),
            "tokens": dx.TokenCount(16, 4096, log=False, step=16),
            "top_p": dx.TopP(),
            "model": Model(["sandbox/small", "sandbox/large"]),
            "plan.module": Module(["Predict", "ChainOfThought", "dspy:ReAct"], weights=[3.0, 2.0, 1.0]),
            "size": Choice(["small", "medium", "very large"], ordered=True, default="medium"),
            "strict": Bool(default=True),
            "instructions": dx.Instruction(["Be brief, and kind.", 'Say "yes" or "no".']),
            "format": dx.Adapter(["chat", "json"]),
            "shown": dx.Demos(0, 8, choose="balanced", by="label", seed=3),
            "n": Int(1, 5, default=2).given(
                {"plan.module": ["dspy:ReAct", "ChainOfThought"], "strict": True}
            ),
            "direction": dx.Embedding(8, normalised=True, rank=2, seed=4).given(n=[2, 3]),
            "grid": dx.Tensor((2, 3), dtype="int", low=0.0, high=9.0),
            "effort": dx.Composite("n * (shown + 1)"),
        },
        constraints=[
            "effort <= 12",
            dx.Constraint("small models stay cool", 'model != "sandbox/small" or temperature < 1'),
        ],
        frozen={"top_p": 0.9, "format": "json"},
    )


def test_a_space_is_read_as_it_was_written():
    """The text of a space gives it again, to the last option."""
    space = Space.parse(WHOLE)
    assert Space.parse(space.to_text()) == space
    assert "n: int = 1 .. 5 (default 2) when plan.module = ChainOfThought | dspy:ReAct and strict = true" in (
        space.to_text().splitlines()
    )


def test_what_is_usual_of_demos_is_not_written():
    """How demos are chosen is said where it differs from the usual."""
    assert Space(demos=dx.Demos(0, 8)).to_text() == "demos: demos = 0 .. 8 (default 0)"
    random_ones = Space(demos=dx.Demos(0, 8, choose="random", seed=1))
    assert random_ones.to_text() == "demos: demos = 0 .. 8 (default 0, choose random, seed 1)"


def test_what_no_line_can_say_is_listed():
    """Objects, labels that are no texts, and functions are named rather than lost."""
    space = Space(
        tool=Choice({"a": object()}),
        size=Choice([1, 2]),
        lm=Model([dspy.LM("openai/gpt-4o", api_key="x")]),
        fine=Float(0, 1),
        mean=dx.Composite(lambda fine: fine),
        constraints=[dx.Constraint("c", lambda fine: fine < 1)],
    )
    with pytest.raises(VariableError) as caught:
        space.to_text()
    assert str(caught.value).splitlines() == [
        "this space cannot be written as text:",
        "  - tool is Choice(['a'], default='a')",
        "  - size is Choice([1, 2], default=1)",
        "  - lm is Model(['openai/gpt-4o'], default='openai/gpt-4o')",
        f"  - mean is {space.composites['mean']!r}",
        f"  - {space.constraints[0]!r} is a function",
        "  → space.to_json()",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x: int = 0 .. 1 when y", "a condition is 'name = value', got 'y' (when module = ReAct)"),
        ("x: float = 0 .. 1 (prior 0.5)", "a prior is a mean and a standard deviation, got '0.5'"),
        ("x: choice = a | b (weights 1)", "weights must be as many as the 2 options, got 1"),
        ("x: choice = a | b (weights many)", "not a number: "),
        ("x: demos = 0 .. 8 (choose best)", "demos are chosen first, random, balanced, got 'best'"),
        ("x: token_count = 1 .. 9 (log)", "an option of a token_count is default or linear or prior or step"),
        ("x: embedding = eight", "not a whole number: "),
        ("x: embedding", "a embedding needs values after '='"),
        ("x: composite = len(y)", "a formula has no call"),
        ("require y <", "cannot read the formula: invalid syntax"),
    ],
)
def test_bad_lines_of_the_other_kinds(line, problem):
    """What these lines cannot say is refused with the line and the rule."""
    with pytest.raises(VariableError) as caught:
        Space.parse(line)
    assert str(caught.value).startswith(f"this space cannot be read:\n  - line 1, {line!r}: {problem}")


def test_conditions_and_rules_on_what_is_not_there_are_refused():
    """What the lines name beyond themselves is checked with the space."""
    with pytest.raises(VariableError) as caught:
        Space.parse("a: int = 0 .. 3\nb: int = 0 .. 3 when c = 1\nrequire d < a\nfreeze e = 1\nfreeze a = x")
    assert str(caught.value).splitlines() == [
        "this space is not well formed:",
        "  - b hangs on 'c', which is no variable",
        "  - the constraint 'd < a' reads d, which is no variable",
        "  - e is frozen, but no variable",
        "  - a must be a whole number, got 'x'",
    ]
