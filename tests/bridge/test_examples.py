import os
import subprocess
import sys
from types import MappingProxyType

import dspy
import pytest

from dspex.bridge import examples
from dspex.errors import DataError

WHOLE = dspy.Example(question="?", answer="!").with_inputs("question")


def test_made_examples_know_their_inputs():
    """Inputs and labels are told apart."""
    example = examples.make({"question": "?"}, {"answer": "!"})
    assert examples.inputs_of(example) == {"question": "?"}
    assert examples.labels_of(example) == {"answer": "!"}


def test_inputs_are_said_where_they_were_left_open():
    """Examples without inputs, dicts and other mappings get the program's inputs; others keep their own."""
    told = dspy.Example(question="?", hint="h", answer="!").with_inputs("question", "hint")
    given = [
        dspy.Example(question="?", answer="!"),
        {"question": "?", "answer": "!"},
        MappingProxyType({"question": "?", "answer": "!"}),
        told,
    ]
    found = examples.checked(iter(given), what="trainset", inputs=["question"])
    assert [examples.inputs_of(example) for example in found] == [
        *[{"question": "?"}] * 3,
        {"question": "?", "hint": "h"},
    ]
    assert [examples.labels_of(example) for example in found] == [{"answer": "!"}] * 4
    assert given[0]._input_keys is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "trainset must hold at least one example, got none\n  → pass trainset=[dspy.Example(...)]"),
        (
            [WHOLE, "text"],
            (
                "trainset[1] must be a dspy.Example or a dict, got str\n"
                "  → dspy.Example(question=..., answer=...).with_inputs('question')"
            ),
        ),
        (
            "question",
            (
                "trainset[0] must be a dspy.Example or a dict, got str\n"
                "  → dspy.Example(question=..., answer=...).with_inputs('question')"
            ),
        ),
        (
            [WHOLE, {"query": "?", "answer": "!"}],
            (
                "trainset[1] lacks the input 'question'; it has query, answer\n"
                "  → name the example's fields as the signature names them"
            ),
        ),
    ],
)
def test_bad_examples_are_refused(given, message):
    """The message names the data set, the place in it, and what is there."""
    with pytest.raises(DataError) as caught:
        examples.checked(given, what="trainset", inputs=["question"])
    assert str(caught.value) == message


@pytest.mark.parametrize("given", [None, 5])
def test_what_is_no_data_set_is_refused(given):
    """Something that holds no examples is a definition's error too."""
    with pytest.raises(DataError, match="trainset must"):
        examples.checked(given, what="trainset", inputs=["question"])


def test_examples_that_call_an_input_a_label_are_refused():
    """An example whose own inputs leave out one of the program's could never be run."""
    wrong = dspy.Example(question="?", answer="!").with_inputs("answer")
    with pytest.raises(DataError, match=r"trainset\[0\]"):
        examples.checked([wrong], what="trainset", inputs=["question"])


def test_keys_follow_content():
    """Equal content has an equal key, whatever the order; other content another one."""
    first = dspy.Example(question="?", answer="!")
    assert examples.key_of(first) == examples.key_of(dspy.Example(answer="!", question="?"))
    others = [
        dspy.Example(question="?", answer="?"),
        dspy.Example(question="?"),
        dspy.Example(question="?", answer=None),
    ]
    assert len({examples.key_of(each) for each in [first, *others]}) == 4
    assert examples.key_of_all([first, others[0]]) != examples.key_of_all([others[0], first])


def test_keys_are_the_same_in_every_process():
    """The hash seed of a process does not reach the key."""
    code = "import dspy\nfrom dspex.bridge import examples\nprint(examples.key_of(dspy.Example(a='ü', b=[1, {'c': 2}])))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    ).stdout.strip()
    assert out == examples.key_of(dspy.Example(a="ü", b=[1, {"c": 2}]))
