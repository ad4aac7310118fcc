"""Flat models: what is written past pydantic is what pydantic and the JSON encoder write."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import dspy
import pydantic
import pytest
from dspy.adapters.utils import format_field_value

from dspex.adapters import JSONAdapter
from dspex.bridge.compiled.flat import flat_writer
from dspex.bridge.compiled.values import text_of


class Reading(pydantic.BaseModel):
    """All four kinds of field."""

    place: str = "here"
    count: Annotated[int, pydantic.Field(ge=0)] = 1
    level: float = 0.5
    sure: bool = True


class Later(Reading):
    """A subclass with a field more."""

    more: int = 2


class Open(pydantic.BaseModel, extra="allow"):
    name: str = "a"


class Renamed(pydantic.BaseModel, serialize_by_alias=True):
    name: str = pydantic.Field("a", serialization_alias="called")


class Hidden(pydantic.BaseModel):
    name: str = "a"
    secret: str = pydantic.Field("b", exclude=True)


class Written(pydantic.BaseModel):
    name: str = "a"

    @pydantic.field_serializer("name")
    def _loud(self, name: str) -> str:
        return name.upper()


class Whole(pydantic.BaseModel):
    name: str = "a"

    @pydantic.model_serializer
    def _whole(self) -> dict[str, str]:
        return {"all": self.name}


class Counted(pydantic.BaseModel):
    name: str = "a"

    @pydantic.computed_field
    @property
    def size(self) -> int:
        return len(self.name)


class Checked(pydantic.BaseModel):
    name: str = "a"

    @pydantic.model_validator(mode="after")
    def _check(self):
        return self


class Deep(pydantic.BaseModel):
    inner: Reading = Reading()


class Kind(pydantic.BaseModel):
    kind: Literal["a"] = "a"


class Root(pydantic.RootModel[str]):
    root: str = "a"


class Empty(pydantic.BaseModel):
    pass


NOT_FLAT = [Open, Renamed, Hidden, Written, Whole, Counted, Checked, Deep, Kind, Root, Empty, dict, int]


def _changed(**values):
    reading = Reading()
    reading.__dict__.update(values)
    return reading


def _reordered():
    reading = Reading()
    reading.__dict__["place"] = reading.__dict__.pop("place")
    return reading


READINGS = {
    "plain": Reading(),
    "braces and quotes": Reading(place='{"é"}\n\'\\ {x}\u2028\x00\x7f', count=10**30, level=-0.0, sure=False),
    "huge": Reading(level=1e300),
    "tiny": Reading(level=5e-324),
    "nan": Reading(level=float("nan")),
    "infinite": Reading(level=float("-inf")),
    "a subclass": Later(place="x"),
    "a lone surrogate": _changed(place="\ud800"),
    "a whole number for a float": _changed(level=3),
    "a truth value for a number": _changed(count=True),
    "a text for a number": _changed(count="7"),
    "nothing for a text": _changed(place=None),
    "a field too many": _changed(extra=1),
    "another order": _reordered(),
    "a field too few": Reading.model_construct(_fields_set=None, place="x"),
    "all others": [made() for made in NOT_FLAT[:-2]],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", READINGS.values(), ids=READINGS)
def test_a_model_is_written_as_dspy_writes_it(value):
    """In a prompt, and within the JSON adapter's object, whatever was put into its fields."""
    info = dspy.Signature("a -> b").fields["a"]
    for each in value if isinstance(value, list) else [value]:
        assert text_of(each) == format_field_value(info, each)
        signature = dspy.Signature({"a": (str, dspy.InputField()), "b": (type(each), dspy.OutputField())})
        demos = [dspy.Example(a="x", b=each)]
        ours, stock = JSONAdapter(), dspy.JSONAdapter()
        assert ours.format(signature, demos, {"a": "y"}) == stock.format(signature, demos, {"a": "y"})


@pytest.mark.parametrize("kind", NOT_FLAT)
def test_what_serializes_in_a_way_of_its_own_is_not_flat(kind):
    """Extra fields, aliases, serializers, nesting: pydantic writes those."""
    assert flat_writer(kind, str) is None


def test_a_flat_model_skips_pydantic():
    """Values of the declared types never reach the other writer."""
    write = flat_writer(Reading, lambda value: pytest.fail("dumped"))
    assert write(Reading()) == json.dumps(Reading().model_dump())
