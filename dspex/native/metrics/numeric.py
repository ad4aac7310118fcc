"""Metrics of numbers: within an absolute or a relative tolerance."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from dspex.errors import DataError
from dspex.native.metrics.protocol import FieldMetric, shown


def within(tolerance: float = 0.0, *, relative: float = 0.0, field: str | None = None) -> FieldMetric:
    """Make a metric that asks whether a number is close enough to the label.

    Parameters
    ----------
    tolerance
        How far it may be off, in the field's own units, ends included.
    relative
        How far it may be off as a share of the label; the larger of the two allowances counts.
    field
        The label that is compared; None means every label.

    Raises
    ------
    DataError
        If a tolerance is negative or no number.

    Examples
    --------
    >>> import dspy
    >>> example = dspy.Example(item="tea", price=200.0).with_inputs("item")
    >>> near = within(relative=0.05, field="price")
    >>> near(example, dspy.Prediction(price="209.5")), near(example, dspy.Prediction(price=211))
    (True, False)
    """
    for name, value in (("tolerance", tolerance), ("relative", relative)):
        if not is_number(value) or not value >= 0:
            raise DataError(f"{name} must be a number >= 0, got {value!r}", hint="within(0.5, field='price')")
    named = f"{tolerance:g}" if not relative else f"{tolerance:g}_or_{100 * relative:g}%"
    name = f"within_{named}" if field is None else f"{field}_within_{named}"
    compared = {"tolerance": tolerance, "relative": relative}
    return FieldMetric(
        name,
        partial(_close, **compared),
        partial(_far, **compared),
        exact=True,
        fields=None if field is None else (field,),
    )


def is_number(value: object) -> bool:
    """Whether a value is a number; a truth value is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: Any) -> float | None:
    """Read a number, or a text that is one."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _close(label: object, predicted: object, *, tolerance: float, relative: float) -> bool:
    wanted, got = number(label), number(predicted)
    if wanted is None or got is None:
        return False
    return abs(wanted - got) <= _allowed(wanted, tolerance, relative)


def _far(label: object, predicted: object, *, tolerance: float, relative: float) -> str:
    wanted, got = number(label), number(predicted)
    if wanted is None:
        return f"the label {shown(label)} is no number"
    if got is None or math.isnan(got):
        return f"expected a number near {label}, got {shown(predicted)}"
    allowed = _allowed(wanted, tolerance, relative)
    return f"expected {label}, got {shown(predicted)}: off by {abs(wanted - got):g}, at most {allowed:g} is allowed"


def _allowed(wanted: float, tolerance: float, relative: float) -> float:
    return max(tolerance, relative * abs(wanted)) if relative else tolerance
