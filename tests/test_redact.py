import pytest

from dspex import redact as room
from dspex.redact import HIDDEN, declare, redact, redacted_traceback, scrub

KEY = "sk-planted-4711-planted"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"key {KEY}, it was", f"key {HIDDEN}, it was"),
        ("sk-ant-api03-abcdef_123-x", HIDDEN),
        ("gsk_0123456789abcdef0123", HIDDEN),
        ("hf_AbCdEfGhIjKlMnOpQr1", HIDDEN),
        ("xai-0123456789abcdefghij", HIDDEN),
        ("AKIAIOSFODNN7EXAMPLE", HIDDEN),
        ("AIza" + "a" * 35, HIDDEN),
        ("github_pat_11AAAAAAA0aaaaaaaaaaaa_bbbb", HIDDEN),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.c2lnbmF0dXJl", HIDDEN),
        ("Authorization: Bearer 0123456789abc", f"Authorization: Bearer {HIDDEN}"),
        ('{"authorization": "Basic dXNlcjpwYXNz"}', f'{{"authorization": "Basic {HIDDEN}"}}'),
        ("{'x-api-key': '0123456789abc', 'a': 1}", f"{{'x-api-key': '{HIDDEN}', 'a': 1}}"),
        ("api_key='hunter2hunter2')", f"api_key='{HIDDEN}')"),
        ("?api_key=hunter2hunter2&n=1", f"?api_key={HIDDEN}&n=1"),
        ("postgresql://me:hunter2@db/x", f"postgresql://me:{HIDDEN}@db/x"),
    ],
)
def test_secrets_go(text, expected):
    """Keys of known shapes, values that are named as secrets, and passwords in addresses are hidden."""
    assert redact(text, environment={}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "the max_tokens: 12345678 were spent",
        "from huggingface_hub import hf_hub_download",
        "http://127.0.0.1:8077/v1/chat/completions",
        "task-oriented risk-averse desk-bound",
        "set OPENAI_API_KEY, or pass api_key=...",
        "a password is needed",
        "tokens_in=1000000, total_tokens=12000000",
    ],
)
def test_other_words_stay(text):
    """What merely looks a little like a secret is left alone."""
    assert redact(text, environment={}) == text


def test_the_environments_secrets_go(monkeypatch):
    """Values of variables that are named as secrets are hidden, others and short ones are not."""
    environment = {
        "A_KEY": "alphabetagamma",
        "B_TOKEN": "short",
        "HOME": "/home/alphabet",
        "C_KEY": "alphabetagammadelta",
    }
    text = "alphabetagammadelta alphabetagamma short /home/alphabet"
    assert redact(text, environment=environment) == f"{HIDDEN} {HIDDEN} short /home/alphabet"
    monkeypatch.setenv("PLANTED_API_KEY", "without any shape")
    assert redact("it was without any shape") == f"it was {HIDDEN}"


def test_declared_secrets_go(monkeypatch):
    """A key that was passed in code is known from then on; one too short to be told from words is not taken."""
    monkeypatch.setattr(room, "_declared", set())
    declare("correct horse")
    declare("word")
    declare(None)
    assert redact("a word, correct horse", environment={}) == f"a word, {HIDDEN}"


def test_exceptions_are_scrubbed_with_their_causes():
    """Messages and texts that an exception keeps are cleaned, along the whole chain, loops included."""
    inner = ValueError(f"no {KEY}", 7)
    inner.body, inner.status = f"{{'key': '{KEY}'}}", 401
    outer = RuntimeError("outer")
    outer.__cause__, inner.__context__ = inner, outer
    assert scrub(outer) is outer
    assert inner.args == (f"no {HIDDEN}", 7)
    assert (inner.body, inner.status) == (f"{{'key': '{HIDDEN}'}}", 401)


def test_tracebacks_are_written_without_secrets():
    """A stack that holds the key in a message does not show it."""
    with pytest.raises(ValueError, match="no") as caught:
        raise ValueError(f"no {KEY}")
    shown = redacted_traceback(caught.value)
    assert KEY not in shown
    assert shown.endswith(f"ValueError: no {HIDDEN}\n")


def test_a_quiet_logger_tells_no_secret(caplog, monkeypatch):
    """Neither in a message, nor in its arguments, nor in an exception; asking for it again adds nothing."""
    monkeypatch.setattr(room, "_declared", {"zebra-0815"})
    log = room.quiet_logger("dspex.test")
    assert room.quiet_logger("dspex.test").filters == log.filters
    log.warning("the key is %s", "zebra-0815")
    try:
        int("zebra-0815")
    except ValueError:
        log.exception("it failed")
    assert "zebra-0815" not in caplog.text
    assert caplog.records[0].getMessage() == "the key is [redacted]"
    assert "ValueError: invalid literal for int() with base 10: '[redacted]'" in caplog.text
