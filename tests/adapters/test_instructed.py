"""The instructed adapter: one clear message without instructor, and its modes with it."""

import sys

import pytest

import dspex as dx
from dspex.adapters.conformance import QUESTION
from dspex.errors import DefinitionError, UnknownNameError

SETTINGS = {"api_base": "http://127.0.0.1:9/v1", "api_key": "any"}


def test_without_instructor_it_says_what_to_install(monkeypatch):
    """One message names the package and the command."""
    monkeypatch.setitem(sys.modules, "instructor", None)
    with pytest.raises(DefinitionError, match=r"dspex\[structured\]"):
        dx.adapters.instructed("openai/large", **SETTINGS)


def test_other_providers_and_modes_are_refused():
    """What instructor is not asked for here is refused when it is made."""
    pytest.importorskip("instructor")
    with pytest.raises(DefinitionError, match="structured adapter"):
        dx.adapters.instructed("anthropic/large", **SETTINGS)
    with pytest.raises(UnknownNameError, match="TOOLS"):
        dx.adapters.instructed("openai/large", how="TOOL", **SETTINGS)


def test_the_mode_is_the_users(server):
    """Another mode asks in another way, for the same answer."""
    pytest.importorskip("instructor")
    task = dx.signature("question -> answer: int")
    for how in ("TOOLS", "JSON_SCHEMA"):
        with dx.adapters.instructed("openai/large", api_base=server.url, api_key="any", how=how) as adapter:
            answer = adapter.generate(task, question=QUESTION)
        assert (answer["answer"] in (220, 265), answer.how) == (True, how)
