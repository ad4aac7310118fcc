"""Source text: how functions are made that hold a signature's or a model's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def made(lines: Iterable[str], names: dict[str, Any]) -> Any:
    """Return the function `write` that these lines define among these names."""
    exec("\n".join(lines), names)  # noqa: S102  # what is not ours in the lines is there as its `repr`
    return names["write"]


def literal(text: str) -> str:
    r"""Return a text as it stands within an f-string in single quotes.

    Examples
    --------
    >>> print(literal("it's\n{so}"))
    it\'s\n{{so}}
    """
    # With a double quote in it, `repr` takes single ones.
    return repr('"' + text)[2:-1].replace("{", "{{").replace("}", "}}")


def indented(lines: Iterable[str]) -> list[str]:
    """Return lines one level further in."""
    return [f"    {line}" for line in lines]
