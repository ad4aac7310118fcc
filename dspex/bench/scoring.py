"""What scoring and filling in prompts takes, beside DSPy's own metrics and plain Jinja2."""

from __future__ import annotations

import random

import dspy
import jinja2
from dspy.evaluate.metrics import F1, answer_exact_match

from dspex.bench.timing import medians_us, print_rows
from dspex.native import metrics
from dspex.native.template import template

_BATCH = 1_000
_RIGHT_SHARE = 0.5
_WORDS = [
    "the",
    "a",
    "Denver",
    "Broncos",
    "won",
    "Super",
    "Bowl",
    "50",
    "in",
    "Santa",
    "Clara,",
    "California",
    "on",
    "February",
    "7",
    "2016",
]
_PROMPT = """Sort the message into one of {{ labels | join(", ") }}.
{% for demo in demos %}
Message: {{ demo.message }}
Label: {{ demo.label }}
{% endfor %}
Message: {{ message }}
"""


def run() -> None:
    """Print the figures."""
    _prompts()
    _single()
    _batches()


def _prompts() -> None:
    ours = template(_PROMPT)
    read_once = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(_PROMPT)  # noqa: S701  # prompts, not pages
    values = {
        "labels": ["bug", "question"],
        "demos": [{"message": f"It broke {k} times.", "label": "bug"} for k in range(4)],
        "message": "Where is my parcel?",
    }

    def stock() -> str:
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701  # as above
        return environment.from_string(_PROMPT).render(values)

    rows = medians_us(
        {
            "a prompt with 4 demos: dspex template": lambda: ours.render(values),
            "a prompt with 4 demos: Jinja2, read once, no sandbox": lambda: read_once.render(values),
            "a prompt with 4 demos: Jinja2, read each time": stock,
        }
    )
    _print(rows)


def _single() -> None:
    example = dspy.Example(question="?", answer="Santa Clara, California").with_inputs("question")
    prediction = dspy.Prediction(answer="Levi's Stadium in Santa Clara")
    five = (example, prediction, None, "predict", None)
    _print(
        medians_us(
            {
                "exact match: dspex": lambda: metrics.exact_match(example, prediction),
                "exact match: DSPy's answer_exact_match": lambda: answer_exact_match(example, prediction),
            }
        )
    )
    _print(
        medians_us(
            {
                "token F1: dspex": lambda: metrics.token_f1(example, prediction),
                "token F1: DSPy's F1": lambda: F1(prediction.answer, [example.answer]),
            }
        )
    )
    _print(medians_us({"token F1 with feedback, as GEPA asks: dspex": lambda: metrics.token_f1(*five)}))


def _batches() -> None:
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choices(_WORDS, k=5))

    examples = [dspy.Example(question="?", answer=text()).with_inputs("question") for _ in range(_BATCH)]
    predictions = [
        dspy.Prediction(answer=each.answer if rng.random() < _RIGHT_SHARE else text()) for each in examples
    ]
    pairs = list(zip(examples, predictions, strict=True))
    for ours, stock, name in (
        (metrics.exact_match, answer_exact_match, "exact match"),
        (metrics.token_f1, lambda example, prediction: F1(prediction.answer, [example.answer]), "token F1"),
    ):
        _print(
            medians_us(
                {
                    f"{name}, {_BATCH:,} at once: dspex score_all": lambda ours=ours: metrics.score_all(  # type: ignore[misc]
                        ours, examples, predictions
                    ),
                    f"{name}, {_BATCH:,} one by one: dspex": lambda ours=ours: [
                        ours(*pair) for pair in pairs
                    ],  # type: ignore[misc]
                    f"{name}, {_BATCH:,} one by one: DSPy": lambda stock=stock: [
                        stock(*pair) for pair in pairs
                    ],  # type: ignore[misc]
                },
                repeats=15,
            )
        )


def _print(rows: dict[str, float]) -> None:
    """Print figures, and how many times the first one's each other one is."""
    print_rows(rows, "us")
    first, *others = rows.values()
    if others:
        print(f"  {'so many times the first':<58}{', '.join(f'{other / first:.2f}' for other in others):>12}")
