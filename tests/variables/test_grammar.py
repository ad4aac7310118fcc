import dspy
import pytest

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
