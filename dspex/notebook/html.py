"""Small pieces of HTML that are right in light and dark themes, without scripts and without a network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MUTED = "color:var(--jp-ui-font-color2,#767676)"
_LINE = "border-bottom:1px solid rgba(127,127,127,.3)"
_CELL = "padding:2px 12px 2px 0;text-align:{align};vertical-align:top"
_FONT = "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px"


class Raw(str):
    """HTML that is finished; everything else is escaped."""

    __slots__ = ()


def text(value: Any) -> str:
    """Return a value's text, escaped unless it is `Raw`."""
    return value if isinstance(value, Raw) else escape(str(value))


def muted(value: Any) -> Raw:
    """Return less important text."""
    return Raw(f'<span style="{_MUTED}">{text(value)}</span>')


def strong(value: Any) -> Raw:
    """Return the text that matters most."""
    return Raw(f"<strong>{text(value)}</strong>")


def code(value: Any) -> Raw:
    """Return something that could be typed."""
    return Raw(f'<code style="background:rgba(127,127,127,.12);padding:0 4px">{text(value)}</code>')


def badge(value: Any) -> Raw:
    """Return a short remark in a frame."""
    return Raw(
        f'<span style="{_MUTED};border:1px solid currentColor;border-radius:8px;padding:0 6px;font-size:11px">'
        f"{text(value)}</span>"
    )


def bar(share: float) -> Raw:
    """Return a number in [0, 1] with a bar behind it."""
    width = round(100 * min(1.0, max(0.0, share)))
    fill = f"linear-gradient(90deg,rgba(66,133,244,.35) {width}%,transparent {width}%)"
    return Raw(
        f'<span style="display:inline-block;min-width:72px;padding:0 4px;background:{fill}">{share:.3f}</span>'
    )


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Raw:
    """Return a table; columns of numbers are set to the right."""
    body = [list(row) for row in rows]
    aligns = [
        "right" if body and all(isinstance(row[k], (int, float)) for row in body) else "left"
        for k in range(len(header))
    ]

    def line(cells: Sequence[Any], tag: str) -> str:
        made = "".join(
            f'<{tag} style="{_CELL.format(align=align)};{_LINE}">{text(cell)}</{tag}>'
            for cell, align in zip(cells, aligns, strict=True)
        )
        return f"<tr>{made}</tr>"

    lines = "".join(line(row, "td") for row in body)
    return Raw(
        f'<table style="{_FONT};border-collapse:collapse;margin:4px 0">'
        f"<thead>{line([muted(cell) for cell in header], 'th')}</thead><tbody>{lines}</tbody></table>"
    )


def details(summary: Any, content: Raw) -> Raw:
    """Return content that opens on a click."""
    return Raw(
        f'<details style="margin:4px 0"><summary style="cursor:pointer">{text(summary)}</summary>{content}</details>'
    )


def card(*parts: Any) -> str:
    """Stack parts into one display."""
    lines = "".join(f"<div>{text(part)}</div>" for part in parts)
    return f'<div class="dspex" style="{_FONT};line-height:1.5;max-width:100%;overflow-x:auto">{lines}</div>'
