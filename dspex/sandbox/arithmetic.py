"""Arithmetic: word problems of one to four steps, where keeping track takes reasoning."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dspex.sandbox.items import Family, Item, Need, pick, sentences, skill

if TYPE_CHECKING:
    from random import Random

_SKILLS = (
    skill("add"),
    skill("subtract"),
    skill("multiply"),
    skill(
        "percent",
        "To take a percentage of something, divide it by 100 and multiply by the percentage.",
        r"percent|%",
        r"divid|100|multipl",
    ),
    skill(
        "carry",
        "After each step write down the intermediate result and go on with that number.",
        r"intermediate|running|step",
        r"write|note|keep|track|go on|carry",
    ),
)

_Step = tuple[str, int, Callable[[int], int], str]
"""Skill, number, what it does to a running result, and that in words."""

# ── the solver ──────────────────────────────────────────────────────────────────────────────────

_NUMBER = re.compile(r"\d+")
_PERCENT = re.compile(r"(\d+) ?(?:percent|%) of them")
_LESS = re.compile(r"(\d+) of them")
_MORE = re.compile(r"(\d+) more")
_TIMES = re.compile(r"\b(doubles|triples|quadruples)\b")
_FACTORS = {"doubles": 2, "triples": 3, "quadruples": 4}
_QUESTION = re.compile(r"how many", re.IGNORECASE)


def solve(inputs: Mapping[str, str]) -> Item | None:
    """Follow the story from its first number, sentence by sentence."""
    question = inputs.get("question") or (next(iter(inputs.values())) if len(inputs) == 1 else "")
    if not _QUESTION.search(question):
        return None
    first, *rest = sentences(question)
    start = _NUMBER.search(first)
    steps = [step for step in map(_step, rest) if step is not None]
    if start is None or not steps:
        return None
    return _item(question, int(start[0]), steps)


def _step(sentence: str) -> _Step | None:
    if found := _PERCENT.search(sentence):
        share = int(found[1])
        return "percent", share, lambda n: n - n * share // 100, f"take away {share} percent"
    if found := _LESS.search(sentence):
        less = int(found[1])
        return "subtract", less, lambda n: n - less, f"subtract {less}"
    if found := _MORE.search(sentence):
        more = int(found[1])
        return "add", more, lambda n: n + more, f"add {more}"
    if found := _TIMES.search(sentence):
        factor = _FACTORS[found[1]]
        return "multiply", factor, lambda n: n * factor, f"multiply by {factor}"
    return None


def _item(question: str, start: int, steps: Sequence[_Step]) -> Item:
    answer = _run(start, steps)
    needs: list[Need] = []
    value = start
    for index, (name, number, apply, words) in enumerate(steps):
        before, value = value, apply(value)
        if index:
            # Losing track: the step before is forgotten.
            lost = _run(start, [*steps[: index - 1], *steps[index:]])
            needs.append(Need("carry", _other(lost, answer, number), f"So far there are {before}."))
        skipped = _run(start, [*steps[:index], *steps[index + 1 :]])
        needs.append(
            Need(name, _other(skipped, answer, number), f"From {before}, {words}: that makes {value}.")
        )
    return Item("arithmetic", question.strip(), answer, tuple(needs))


def _run(value: int, steps: Sequence[_Step]) -> int:
    for _, _, apply, _ in steps:
        value = apply(value)
    return value


def _other(slip: int, answer: int, number: int) -> int:
    return slip if slip != answer and slip >= 0 else answer + max(number, 1)


# ── the generator ───────────────────────────────────────────────────────────────────────────────

_STARTS = (
    "{name} has {n} {things}.",
    "There are {n} {things} in the {place}.",
    "{name} starts the week with {n} {things}.",
    "The {place} stocks {n} {things} on Monday.",
    "{name} counts {n} {things} in the {place}.",
)
_STEPS = {
    "add": (
        "{name} buys {n} more.",
        "A neighbour brings {n} more.",
        "The next delivery holds {n} more.",
        "On {day} {n} more are found.",
    ),
    "subtract": (
        "{n} of them are given away.",
        "On {day} {name} loses {n} of them.",
        "A friend borrows {n} of them.",
        "{n} of them turn out to be faulty.",
    ),
    "multiply": ("After {day} the number {times}.", "By {day} the stock {times}.", "{name} works hard and the number {times}."),
    "percent": ("{n} percent of them are sold.", "{name} donates {n} percent of them.", "On {day} {n} percent of them go to a school."),
}  # fmt: skip
_QUESTIONS = (
    "How many {things} are there now?",
    "How many {things} are left in the end?",
    "How many {things} does that leave?",
)
_WORDS = {
    "name": ("Ana", "Tom", "Mei", "Omar", "Julia", "Sam", "Lena", "Raj", "Ivo", "Nora"),
    "things": ("apples", "marbles", "stamps", "books", "pencils", "candles", "postcards", "buttons", "tickets", "shells"),
    "place": ("shop", "library", "kitchen", "museum", "garage", "school"),
}  # fmt: skip
_DAYS = ("Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MANY = 160


def draw(rng: Random, index: int) -> dict[str, str]:
    """Write a problem; one, two, three and four steps take turns."""
    value = rng.randint(2, 12) * 20
    words = {kind: pick(rng, choices) for kind, choices in _WORDS.items()}
    parts = [pick(rng, _STARTS).format(n=value, **words)]
    for _ in range(1 + index % 4):
        sentence, value = _drawn_step(rng, value, words)
        parts.append(sentence)
    return {"question": " ".join([*parts, pick(rng, _QUESTIONS).format(**words)])}


def _drawn_step(rng: Random, value: int, words: Mapping[str, str]) -> tuple[str, int]:
    """Write a step that leaves a positive whole number."""
    kinds = ["add", "subtract"]
    if value < _MANY:
        kinds.append("multiply")
    if value % 20 == 0:
        kinds += ["percent", "percent"]
    kind = rng.choice(kinds)
    times = pick(rng, tuple(_FACTORS))
    number = {
        "add": rng.randint(1, 12) * 5,
        "subtract": rng.randint(1, max(value // 2, 1)),
        "percent": rng.choice((5, 10, 20, 25, 40)),
    }
    day = pick(rng, _DAYS)
    sentence = pick(rng, _STEPS[kind]).format(n=number.get(kind, 0), times=times, day=day, **words)
    step = _step(sentence)
    assert step is not None
    return sentence, step[2](value)


FAMILY = Family(
    name="arithmetic",
    description="Solve simulated word problems of one to four steps; reasoning first is what keeps track.",
    signature="question -> answer: int",
    instructions="Answer the question with a whole number.",
    inputs=("question",),
    output="answer",
    skills=_SKILLS,
    draw=draw,
    solve=solve,
)
