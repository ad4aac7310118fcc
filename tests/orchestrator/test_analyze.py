"""What a task asks for is read off, the same every time."""

from __future__ import annotations

import pytest

from dspex.native.signature import signature
from dspex.orchestrator.analyze import analyze, title_of


@pytest.mark.parametrize(
    ("spec", "instructions", "chars", "reasoning", "complexity"),
    [
        ("question -> answer", "Answer briefly.", 10, False, "low"),
        ("question -> answer: float", "Answer.", 10, True, "medium"),
        ("question -> answer", "Explain every step.", 10, True, "medium"),
        ("text -> summary", "Shorten.", 2_000, False, "medium"),
        ("text -> summary", "Shorten.", 20_000, False, "high"),
        ("text -> a, b, c, d", "Solve it.", 10, True, "high"),
    ],
)
def test_reads_reasoning_and_complexity(spec, instructions, chars, reasoning, complexity):
    """Numbers to work out, words that ask for thought, and length make a task harder."""
    asked = analyze(signature(spec, instructions), {"x": "y" * chars})
    assert (asked.reasoning, asked.complexity, asked.input_chars) == (reasoning, complexity, chars)


def test_reads_the_same_input_the_same_way():
    """An analysis is a pure function."""
    task = signature("question -> answer")
    assert analyze(task, {"question": "why"}) == analyze(task, {"question": "why"})


def test_titles_a_signature_by_its_name_or_else_its_spec():
    """A table never shows the placeholder name."""
    assert title_of(signature("a -> b", name="Triage")) == "Triage"
    assert title_of(signature("a -> b")) == "a -> b"
