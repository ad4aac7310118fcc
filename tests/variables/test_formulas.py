import itertools

import pytest

from dspex.errors import VariableError
from dspex.records import ModelInfo
from dspex.variables.choice import Choice
from dspex.variables.formulas import Composite, Constraint, Formula
from dspex.variables.numeric import Int
from dspex.variables.program import Model
from dspex.variables.space import Space


def doubled(x):
    return 2 * x


@pytest.mark.parametrize(
    ("text", "reads", "values", "expected"),
    [
        ("a + 2 * b", ("a", "b"), (1, 2), 5),
        ("a // b - a % b + -a / 2", ("a", "b"), (7, 2), -1.5),
        ("a < b <= 3 and not a == b", ("a", "b"), (1, 3), True),
        ("model in ('x', 'y') or n not in [1]", ("model", "n"), ("z", 1), False),
        ("plan.temperature if a else 0", ("a", "plan.temperature"), (True, 0.5), 0.5),
        ("a == None", ("a",), (None,), True),
    ],
)
def test_a_text_says_what_it_reads(text, reads, values, expected):
    """Names, dotted ones whole, are what a formula reads; the rest is arithmetic and comparison."""
    formula = Formula(text)
    assert sorted(formula.reads) == sorted(reads)
    by_name = dict(zip(reads, values, strict=True))
    assert formula.value([by_name[name] for name in formula.reads]) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Formula("len(a) < 3"),
            "a formula has no call\n  len(a) < 3\n  ^\n  → give a function instead of a text",
        ),
        (
            lambda: Formula("a[0]"),
            "a formula has no subscript\n  a[0]\n  ^\n  → give a function instead of a text",
        ),
        (lambda: Formula("1 < 2"), "a formula reads at least one variable, '1 < 2' reads none"),
        (lambda: Formula(3), "a formula is a function or an expression as text, got 3"),
        (lambda: Formula(doubled, "x"), "reads must be a list of names, got the text 'x'\n  → ['x']"),
        (
            lambda: Formula("a < 1", ["a"]),
            "the formula 'a < 1' says itself what it reads\n  → leave out reads=",
        ),
        (lambda: Constraint(""), "a constraint's name is a text, got ''\n  → Constraint('a <= b')"),
        (
            lambda: Formula("a / b").value([1, 0]),
            "'a / b' fails on a=1, b=0: ZeroDivisionError: division by zero",
        ),
    ],
)
def test_bad_formulas_are_refused(make, message):
    """What is no formula, or fails on values, says why and where."""
    with pytest.raises(VariableError) as caught:
        make()
    assert str(caught.value) == message


def test_a_text_that_is_no_expression_is_shown_with_a_caret():
    """What Python cannot read is refused with the place where it stopped."""
    with pytest.raises(VariableError, match=r"(?s)cannot read the formula: invalid syntax\n  a < < b\n +\^"):
        Formula("a < < b")


def test_composites_of_composites_resolve_in_any_order():
    """A chain a → b → c gives the same whatever the order in which it is written."""
    made = {
        "x": Int(1, 9, default=3),
        "a": Composite(doubled),
        "b": Composite("a + 1"),
        "c": Composite("b * a"),
    }
    made["a"] = Composite(doubled, ["x"])
    for order in itertools.permutations(made):
        space = Space({name: made[name] for name in order})
        assert space.resolve({"x": 3}) == {"x": 3, "a": 6, "b": 7, "c": 42}


def test_a_diamond_is_evaluated_once():
    """What two composites read is computed once a configuration."""
    calls = []

    def base(x):
        calls.append(x)
        return x + 1

    space = Space(
        x=Int(0, 9),
        base=Composite(base),
        left=Composite("base * 2"),
        right=Composite("base * 3"),
        top=Composite("left + right"),
    )
    assert space.resolve({"x": 1})["top"] == 10
    assert calls == [1]


def test_a_composite_is_never_set():
    """Setting one is refused wherever a configuration is taken, and it stands in none that is given."""
    space = Space(x=Int(0, 9), y=Composite("x + 1"))
    assert "y" not in space.default()
    for refused in (space.check, space.complete, lambda given: space.freeze(y=given["y"])):
        with pytest.raises(VariableError, match="y is computed from x, and never set"):
            refused({"x": 1, "y": 2})


def test_what_reads_something_that_does_not_exist_does_not_either():
    """A composite of an inactive variable is left out, and a constraint on it holds."""
    space = Space(
        module=Choice(["a", "b"]),
        n=Int(1, 9).given(module="b"),
        double=Composite("n * 2"),
        constraints=["double <= 4"],
    )
    assert space.resolve({"module": "a"}) == {"module": "a"}
    assert space.resolve({"module": "b", "n": 2}) == {"module": "b", "n": 2, "double": 4}
    with pytest.raises(VariableError, match="'double <= 4' does not hold for double=6"):
        space.check({"module": "b", "n": 3})


def test_conditions_may_hang_on_composites():
    """What is computed decides what exists, in draws and counts too."""
    space = Space(x=Int(0, 3), even=Composite("x % 2 == 0"), deep=Int(0, 4).given(even=True))
    assert space.n_configurations == 2 * 5 + 2
    assert len(list(space.configurations())) == 12
    assert space.complete({"x": 1}) == {"x": 1}
    assert space.complete({"x": 2}) == {"x": 2, "deep": 0}


def test_features_are_read_by_name():
    """A formula reads what is known of the model chosen; of one nobody knows, the rule holds."""
    model = Model(["a/small", "a/large", "a/dark"], info={
        "a/small": ModelInfo(context_tokens=100), "a/large": ModelInfo(context_tokens=9000)})  # fmt: skip
    space = Space(model=model, n=Int(1, 9999), constraints=["n <= model.context_tokens"])
    space.check({"model": "a/large", "n": 5000})
    space.check({"model": "a/dark", "n": 5000})
    with pytest.raises(VariableError, match=r"does not hold for n=5000, model.context_tokens=100.0"):
        space.check({"model": "a/small", "n": 5000})


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("tempo < 1", "reads tempo, which is no variable (did you mean 'temp'?)"),
        (
            "model.contxt_tokens < 1",
            "model.contxt_tokens, which is no feature of model (did you mean 'context_tokens'?)",
        ),
        ("temp.size < 1", "temp.size, which is no variable"),
    ],
)
def test_formulas_read_what_is_there(formula, message):
    """A name that is neither variable nor feature is refused when the space is defined."""
    with pytest.raises(VariableError) as caught:
        Space(temp=Int(0, 1), model=Model(["openai/gpt-4o"]), constraints=[formula])
    assert message in str(caught.value)
