"""What a value looks like: complete without a server, a script or a network, and escaped."""

from __future__ import annotations

import re

import pytest

import dspex as dx
from dspex.notebook import html
from dspex.notebook.plots.routing import OTHERS

TRIAGE = dx.sandbox.task("triage")
SIGNATURE = dx.signature(TRIAGE.signature, "Sort <b>this</b>.", name="Triage")


def html_of(shell, value) -> str:
    """Format a value as the notebook would."""
    return shell.display_formatter.format(value)[0]["text/html"]


@pytest.fixture
def values(shell):
    result = dx.execute(SIGNATURE, message=TRIAGE.dev[0].message).rate(1.0)
    space = dx.Space(
        tone=dx.Online(dx.Choice(["brief", "kind"])),
        temperature=dx.Float(1e-3, 1.5, log=True),
        flag=dx.Bool(),
        model=dx.Model(["sandbox/small"]),
        n=dx.Int(0, 4).given(flag=True),
        constraints=["n < 4 or temperature < 1"],
    )
    return {
        "signature": SIGNATURE,
        "space": space,
        "result": result,
        "decision": result.decision,
        "runtime": dx.configure(dx.sandbox.MODELS, store="memory"),
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("signature", ["Triage", "message", "label", "Literal["]),
        (
            "space",
            [
                "brief | kind",
                "choice, online",
                "temperature",
                "log",
                "true | false",
                "sandbox/small",
                "0 .. 4",
                "flag = true",
                "n &lt; 4 or",
            ],
        ),
        ("result", ["label", "simulated", "analyze", "fall_back", "utility", "why:"]),
        ("decision", ["utility", "chosen with", "sandbox/large", "ChainOfThought"]),
        ("runtime", ["sandbox/medium", "simulated", "quality 0.6", "inline"]),
    ],
)
def test_shows_what_matters_without_script_or_network(shell, values, name, expected):
    """Each value's HTML holds its facts, is well formed, and reaches for nothing."""
    drawn = html_of(shell, values[name])
    for fact in expected:
        assert fact in drawn
    assert "<script" not in drawn
    assert "http" not in drawn
    assert "<b>this</b>" not in drawn
    for tag in ("table", "tr", "td", "div", "details", "span"):
        assert len(re.findall(f"<{tag}[ >]", drawn)) == drawn.count(f"</{tag}>")
    assert not re.search("<code[^>]*></code>", drawn), "an empty cell is empty, not a grey box"


def test_a_route_is_a_plot_and_a_table(shell):
    """Every strategy has its lines, and the picture says in words what it shows."""
    for example in TRIAGE.dev[:40]:
        dx.execute(SIGNATURE, message=example.message).rate(1.0)
    route = dx.route(SIGNATURE)
    drawn = html_of(shell, route)
    assert drawn.count("<polyline") == 2 * len(route.now)
    assert f'aria-label="Learned route of Triage: now best is {route.now.index[0]}"' in drawn
    assert "believed utility" in drawn


def test_of_many_ways_the_best_have_colours(shell):
    """Six are told apart; the others are grey, beneath them, and counted."""
    message = TRIAGE.dev[0].message
    for each in dx.explain(SIGNATURE, message=message).alternatives[:9]:
        dx.execute(SIGNATURE, message=message, pin=each.strategy)
    route = dx.route(SIGNATURE)
    drawn = html_of(shell, route)
    grey = [line for line in re.findall(r"<polyline.*?</polyline>", drawn) if OTHERS in line]
    assert len(grey) == 2 * 3
    assert all(f"<title>{best}</title>" not in line for line in grey for best in route.now.index[:6])
    assert ">3 more</text>" in drawn


def test_an_empty_route_says_what_to_do(shell):
    """Before the first call there is a sentence, not an empty plot."""
    assert "nothing has been executed yet" in html_of(shell, dx.route())


def test_text_is_escaped_once():
    """Cells cannot inject markup, and finished pieces are not escaped again."""
    drawn = html.card(html.table(("<h>",), [("<x>",), (html.strong("<y>"),)]))
    assert "&lt;h&gt;" in drawn
    assert "&lt;x&gt;" in drawn
    assert "<strong>&lt;y&gt;</strong>" in drawn


def test_a_long_answer_is_cut_in_the_table_only():
    """The card stays readable; the value is whole."""
    from dspex.notebook.display import _shortened

    assert _shortened("x" * 500).endswith("(500 characters)")
