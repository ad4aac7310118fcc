"""What is computed from variables: composites, and the constraints that configurations must keep.

Both are a function of the values they read, or a text such as ``"max_tokens <= model.context_tokens"``. They
see what a configuration holds (a choice's label, not the object behind it), other composites, and features:
``model.context_tokens`` is what `Model.features` says of the model chosen.
"""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from dspex.errors import VariableError
from dspex.variables.protocol import Conditional, conditions_of
from dspex.variables.spec import read, written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Add, ast.Sub,
    ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
    ast.In, ast.NotIn, ast.IfExp, ast.Constant, ast.Tuple, ast.List, ast.Name, ast.Attribute, ast.Load,
)  # fmt: skip


class Formula:
    """A function with the names of what it reads.

    Parameters
    ----------
    function
        A function, or a Python expression of names, numbers, texts, comparisons, ``and or not in``.
    reads
        What its parameters are, in their order; their own names if left out.
    """

    def __init__(self, function: Callable[..., Any] | str, reads: Sequence[str] | None = None) -> None:
        if isinstance(reads, str):
            raise VariableError(f"reads must be a list of names, got the text {reads!r}", hint=f"[{reads!r}]")
        self.text = function if isinstance(function, str) else None
        if isinstance(function, str):
            if reads is not None:
                raise VariableError(
                    f"the formula {function!r} says itself what it reads", hint="leave out reads="
                )
            self.reads, self.function = _compiled(function)
        elif callable(function):
            self.reads, self.function = tuple(_parameters(function) if reads is None else reads), function
        else:
            raise VariableError(f"a formula is a function or an expression as text, got {function!r}")
        if not self.reads:
            raise VariableError(f"a formula reads at least one variable, {self!r} reads none")

    def __reduce__(self) -> tuple[Any, ...]:
        # What a text was compiled to does not pickle.
        return type(self), (self.text,) if self.text is not None else (self.function, self.reads)

    def __repr__(self) -> str:
        if self.text is not None:
            return repr(self.text)
        return f"{getattr(self.function, '__qualname__', repr(self.function))}({', '.join(self.reads)})"

    def value(self, values: Sequence[Any]) -> Any:
        """Return what it gives for the values of what it reads, in their order.

        Raises
        ------
        VariableError
            If it raises anything.
        """
        try:
            return self.function(*values)
        except Exception as error:
            seen = ", ".join(f"{name}={value!r}" for name, value in zip(self.reads, values, strict=True))
            raise VariableError(f"{self!r} fails on {seen}: {type(error).__name__}: {error}") from error

    def content(self) -> dict[str, Any]:
        """Describe it as JSON: its text, or the function's name."""
        return {"formula": self.text or repr(self), "reads": list(self.reads)}

    def to_dict(self, what: str) -> dict[str, Any]:
        """Describe it as JSON from which it can be made again."""
        if self.text is not None:
            return {"formula": self.text}
        return {"formula": written(self.function, what), "reads": list(self.reads)}

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> Formula:
        """Make it from what `to_dict` said."""
        formula = spec["formula"]
        return cls(formula) if isinstance(formula, str) else cls(read(formula), spec["reads"])


class Constraint:
    """A rule that configurations keep; it holds wherever something that it reads does not exist.

    Parameters
    ----------
    name
        What messages call it; may be the rule itself, as text.
    predicate, reads
        What must be true, as for `Formula`.

    Examples
    --------
    >>> Constraint("short answers are cheap", "max_tokens < 100 or model == 'small'").reads
    ('max_tokens', 'model')
    >>> Constraint("low <= high").name
    'low <= high'
    """

    def __init__(
        self, name: str, predicate: Callable[..., Any] | str | None = None, reads: Sequence[str] | None = None
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise VariableError(f"a constraint's name is a text, got {name!r}", hint="Constraint('a <= b')")
        self.name = name
        self.formula = Formula(name if predicate is None else predicate, reads)

    @property
    def reads(self) -> tuple[str, ...]:
        """What it looks at."""
        return self.formula.reads

    def holds(self, values: Sequence[Any]) -> bool:
        """Whether it holds for the values of what it reads, in their order."""
        return bool(self.formula.value(values))

    def content(self) -> dict[str, Any]:
        """Describe it as JSON."""
        return {"name": self.name, **self.formula.content()}

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON from which it can be made again."""
        return {"name": self.name, **self.formula.to_dict(f"the constraint {self.name!r}")}

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> Constraint:
        """Make it from what `to_dict` said."""
        formula = Formula.from_dict(spec)
        return cls(spec["name"], formula.text or formula.function, None if formula.text else formula.reads)

    def __repr__(self) -> str:
        return f"Constraint({self.name!r}{'' if self.formula.text == self.name else f', {self.formula!r}'})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constraint) and other.content() == self.content()

    def __hash__(self) -> int:
        return hash(repr(self))


class Composite(Conditional):
    """A value that is computed from others once a configuration; it is never set.

    Where something that it reads does not exist, neither does it.

    Parameters
    ----------
    function, reads
        As for `Formula`.

    Examples
    --------
    >>> Composite("samples * max_tokens")
    Composite('samples * max_tokens')
    """

    kind: ClassVar[str] = "composite"

    def __init__(
        self,
        function: Callable[..., Any] | str,
        reads: Sequence[str] | None = None,
        *,
        when: Mapping[str, Any] | None = None,
    ) -> None:
        self.formula = Formula(function, reads)
        self.when = conditions_of(when or {})

    @property
    def reads(self) -> tuple[str, ...]:
        """What it is computed from."""
        return self.formula.reads

    def resolve(self, value: Any) -> Any:
        """Return the value itself."""
        return value

    def content(self) -> dict[str, Any]:
        """Describe it as JSON."""
        when = {name: list(values) for name, values in self.when.items()}
        return {"kind": self.kind, **self.formula.content(), "when": when}

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON from which it can be made again."""
        return {**self.content(), "reads": None, **self.formula.to_dict("the composite")}

    @classmethod
    def from_dict(cls, arguments: Mapping[str, Any]) -> Composite:
        """Make it from what `to_dict` said."""
        formula = Formula.from_dict(arguments)
        reads = None if formula.text else formula.reads
        return cls(formula.text or formula.function, reads, when=arguments["when"])

    def __repr__(self) -> str:
        return f"Composite({self.formula!r}){self._suffix()}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Composite) and other.content() == self.content()

    def __hash__(self) -> int:
        return hash(repr(self))


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise VariableError(
            f"what {function!r} reads cannot be told from it", hint="say it: reads=('a', 'b')"
        ) from error


def _compiled(text: str) -> tuple[tuple[str, ...], Callable[..., Any]]:
    """Turn an expression into the names it reads and a function of them."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise VariableError.at(
            text.strip(), (error.offset or 1) - 1, f"cannot read the formula: {error.msg}"
        ) from error
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise VariableError.at(
                text.strip(),
                getattr(node, "col_offset", 0),
                f"a formula has no {type(node).__name__.lower()}",
                hint="give a function instead of a text",
            )
    names = _Names()
    body = names.visit(tree.body)
    arguments = ast.arguments(
        posonlyargs=[],
        args=[ast.arg(f"_{k}") for k in range(len(names.found))],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    made = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, body)))
    # Nothing but comparisons and arithmetic of its arguments has come through.
    function = eval(compile(made, "<formula>", "eval"), {"__builtins__": {}})  # noqa: S307
    return tuple(names.found), function


class _Names(ast.NodeTransformer):
    """Replace every name, dotted or not, by an argument."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Replace a name."""
        return self._argument(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.Name:
        """Replace a dotted name as a whole."""
        return self._argument(ast.unparse(node))

    def _argument(self, name: str) -> ast.Name:
        if name not in self.found:
            self.found.append(name)
        return ast.Name(f"_{self.found.index(name)}", ast.Load())
