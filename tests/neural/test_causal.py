"""Causal models: many prompts in step give each its own answer, as if it were alone."""

from __future__ import annotations

import pytest

from dspex.errors import ContextWindowExceededError, DefinitionError
from dspex.neural import causal
from dspex.records import Prompt


@pytest.fixture(scope="module")
def talk(talker):
    return causal.load(str(talker), "auto")


def ask(text, **options):
    return Prompt("local/talker", "", (("user", text),), **options)


def texts(model, *prompts):
    return [each.text for each in causal.complete(model, prompts)]


def test_an_answer_ends_where_the_model_ends_it(talk):
    """The likeliest words are taken until the end token, and both sides are counted."""
    (found,) = causal.complete(talk, [ask("xyzuv")])
    assert (found.text, found.finish_reason) == ("wxyz", "stop")
    assert (found.usage.calls, found.usage.tokens_in, found.usage.tokens_out) == (1, 5, 5)


def test_an_answer_ends_at_its_length(talk):
    """`max_tokens` is heeded, and the reason says so; by default the model's own limit holds."""
    (short,) = causal.complete(talk, [ask("a", max_tokens=3)])
    assert (short.text, short.finish_reason, short.usage.tokens_out) == ("bcd", "length", 3)
    (long,) = causal.complete(talk, [ask("?")])
    assert len(long.text) == 512 - 1


@pytest.mark.parametrize(
    ("stop", "expected"), [(("hi",), "bcdefg"), (("q", "ef"), "bcd"), (("0",), "bcdefghijklmnopqrstuvwxyz")]
)
def test_an_answer_ends_before_a_stop(talk, stop, expected):
    """The first of the stops ends it, and is no part of it."""
    assert texts(talk, ask("a", stop=stop)) == [expected]


def test_each_prompt_of_a_batch_has_its_own_settings(talk):
    """Length, stops, temperature and seed are a prompt's own, whatever its neighbours have."""
    coin = ask("heads or tails?", temperature=1.0, seed=7, max_tokens=20)
    alone = texts(talk, coin)
    together = texts(talk, ask("a", max_tokens=2), coin, ask("s", stop=("w",)), ask("long before b"), coin)
    assert together == ["bc", *alone, "tuv", "cdefghijklmnopqrstuvwxyz", *alone]
    assert set(alone[0]) == {"H", "T"}


def test_seeds_draw(talk):
    """One seed draws the same again, another something else, and none something new each time."""
    first, other = (texts(talk, ask("?", temperature=1.0, seed=k, max_tokens=40)) for k in (0, 1))
    assert texts(talk, ask("?", temperature=1.0, seed=0, max_tokens=40)) == first
    assert first != other
    assert texts(talk, ask("?", temperature=1.0, seed=0, rollout=1, max_tokens=40)) == other
    free = {texts(talk, ask("?", temperature=1.0, max_tokens=40))[0] for _ in range(3)}
    assert len(free) == 3


def test_top_p_leaves_the_likeliest(talk):
    """Of two words with equal chance one is left if half of it is asked for, else both."""
    assert len(set(texts(talk, ask("?", temperature=1.0, top_p=0.4, max_tokens=40))[0])) == 1
    assert len(set(texts(talk, ask("?", temperature=1.0, top_p=0.9, seed=1, max_tokens=40))[0])) == 2


def test_a_batch_says_what_each_would_say_alone(untaught):
    """Prompts of different lengths, padded to meet, are answered as if each were alone."""
    model = causal.load(str(untaught), "auto")
    prompts = [
        ask("x" * k + text, max_tokens=12 + k) for k, text in enumerate(("one", "two and", "three", "a four"))
    ]
    together = causal.complete(model, prompts)
    assert together == [causal.complete(model, [each])[0] for each in prompts]
    assert len({each.text for each in together}) == 4


def test_a_prompt_that_is_too_long_fails_alone(talk):
    """It says how long it is and what the model can read; its neighbour is answered."""
    long, good = causal.complete(talk, [ask("a" * 600), ask("x")])
    assert good.text == "yz"
    assert isinstance(long, ContextWindowExceededError)
    assert long.message == "the prompt has 600 tokens, and local/talker can read 512, answer included"


def test_pieces_make_the_whole(talk):
    """What is streamed, piece by piece, is the answer, and the whole comes last; a stop never shows."""
    *pieces, whole = causal.pieces(talk, ask("a", stop=("hij",)))
    assert "".join(pieces) == whole.text == "bcdefg"
    assert len(pieces) > 3


def test_a_stop_that_does_not_come_is_shown(talk):
    """What might have become a stop is held back, and given once it is clear."""
    *pieces, whole = causal.pieces(talk, ask("a", stop=("hix",), max_tokens=10))
    assert "".join(pieces) == whole.text == "bcdefghijk"
    assert "hij" in pieces


def test_letters_of_several_bytes_come_whole(talk):
    """No piece holds half a character."""
    *pieces, whole = causal.pieces(talk, ask("!", max_tokens=6))
    assert pieces == ["é", "é", "é"]
    assert whole.text == "ééé"


def test_a_model_without_a_template_gets_plain_lines(plain):
    """Roles and texts as lines, then the assistant's turn; where the model begins another turn, it is over."""
    model = causal.load(str(plain), "auto")
    prompt = Prompt("local/plain", "Be brief.", (("user", "2+2?"), ("assistant", "4"), ("user", "again")))
    assert (
        model.written(prompt)
        == "system: Be brief.\n\nuser: 2+2?\n\nassistant: 4\n\nuser: again\n\nassistant:"
    )
    assert texts(model, prompt) == ["[[ ## answer ## ]]\nfour\n\n[[ ## completed ## ]]\n"]


def test_a_damaged_model_is_named(tmp_path, plain):
    """A folder whose files are not what they should be is named, with what the loader said."""
    for file in plain.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "nobody-knows"}')
    with pytest.raises(DefinitionError, match=f"the model in '{tmp_path}' cannot be loaded: .*nobody-knows"):
        causal.load(str(tmp_path), "auto")
