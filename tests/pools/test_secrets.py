"""A key that something was given travels in the environment, never in a message."""

import os

import dspy
import pytest

from dspex import redact
from dspex.errors import ShippingError
from dspex.pools import secrets, shipping

KEY = "hunter2-hunter2-hunter2"


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """Declare one secret, for as long as a test."""
    forget()
    monkeypatch.setattr(redact, "_declared", {KEY})
    yield
    forget()


def forget():
    """Take away the variables of what was shipped before."""
    for name in secrets.environment():
        del os.environ[name]


@pytest.mark.parametrize(
    "value",
    [KEY, {"headers": [KEY]}, dspy.LM("openai/gpt-4o-mini", api_key=KEY), lambda: KEY],
    ids=["text", "nested", "lm", "closure"],
)
def test_a_message_names_a_secret_and_does_not_hold_it(value):
    """Whatever holds it, the message has a name in its place, and reading gives the value back."""
    for data in (shipping.pack("it", value), shipping.pack_within(value, 1 << 20)):
        assert KEY.encode() not in data
        assert list(secrets.environment().values()) == [KEY]
        again = shipping.unpack(data)
        if callable(value) and not isinstance(value, dspy.LM):
            assert again() == KEY
        elif isinstance(value, dspy.LM):
            assert again.kwargs["api_key"] == KEY
        else:
            assert again == value


def test_what_holds_no_secret_is_written_as_ever():
    """No variable is made for it."""
    assert shipping.unpack(shipping.pack("it", {"a": [1, "two"]})) == {"a": [1, "two"]}
    assert secrets.environment() == {}


def test_a_secret_that_did_not_come_along_is_missed():
    """Where the variable is not set, reading says so."""
    data = shipping.pack("it", KEY)
    forget()
    with pytest.raises(ShippingError, match="did not reach this process"):
        shipping.unpack(data)


def test_a_reader_knows_the_secret_afterwards(monkeypatch):
    """What a worker was handed is neither shown there nor sent back as it is."""
    data = shipping.pack("it", KEY)
    monkeypatch.setattr(redact, "_declared", set())
    assert shipping.unpack(data) == KEY
    assert redact.redact(f"with {KEY}") == "with [redacted]"
    assert KEY.encode() not in shipping.pack_within([KEY], 1 << 20)
