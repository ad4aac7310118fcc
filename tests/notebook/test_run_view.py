"""The live view: what its JavaScript twin is told, and what it may ask for."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("anywidget")

from dspex.notebook.plots.run import Point, RunData
from dspex.notebook.widgets import run_view

_NODE = shutil.which("node")


def _data(n_points, **changes):
    points = tuple(
        Point(k, k / 10, 0.05, 48, 0, 0.001, k == 5, ("0.7", "sandbox/small")) for k in range(n_points)
    )
    facts = {
        "name": "s", "state": "running", "reason": "", "variables": ("temperature", "model"), "points": points,
        "best": points[-1] if points else None, "default_score": 0.0, "planned_trials": 10, "planned_scores": None, "cost_usd": 0.01,
        "elapsed_s": 12.0, "is_simulated": True,
    }  # fmt: skip
    return RunData(**facts | changes)


class _Study:
    """A study as far as a view sees it."""

    def __init__(self):
        self.data = _data(2)
        self.cancelled = 0

    def cancel(self):
        self.cancelled += 1


@pytest.fixture
def study():
    return _Study()


@pytest.fixture
def view(study):
    made = run_view.RunView(read=lambda: run_view.snapshot(study.data), cancel=study.cancel)
    made.told = []
    made.send = lambda content, buffers=None: made.told.append((content, buffers))
    return made


def _press(view, **message):
    view._handle_custom_msg(message, [])


def test_state_is_always_todays_snapshot(view, study):
    """A page that is reloaded asks for the state and gets every point there is by then."""
    assert len(view.get_state()["snapshot"]["points"]) == 2
    study.data = _data(6)
    assert len(view.get_state()["snapshot"]["points"]) == 6


def test_snapshot_is_json_even_where_a_metric_is_infinite(study):
    """JSON has no infinity: such a score is null."""
    point = Point(0, float("inf"), None, 3, 0, 0.0, False, ("1", "m"))
    told = run_view.snapshot(_data(0, points=(point,), best=point, default_score=float("inf")))
    assert json.loads(json.dumps(told, allow_nan=False))["points"][0][1] is None
    assert told["status"]["default"] is None


def test_a_thousand_trials_stay_small():
    """The snapshot of a long study is a fraction of what a page can take."""
    assert len(json.dumps(run_view.snapshot(_data(1000)))) < 100_000


def test_delta_holds_what_is_new_and_where_it_begins():
    """A delta says from which point on it speaks."""
    told = run_view.delta(run_view.snapshot(_data(6)), start=4)
    assert (told["type"], told["start"]) == ("delta", 4)
    assert [row[0] for row in told["points"]] == [4, 5]
    assert told["status"]["state"] == "running"


def test_cancel_button_cancels(view, study):
    """Cancel reaches the study."""
    _press(view, type="cancel")
    assert study.cancelled == 1


def test_plotly_is_sent_packed_when_asked_and_is_no_state(view):
    """A page asks for plotly.js once; it comes as a binary buffer."""
    pytest.importorskip("plotly")
    _press(view, type="need-plotly")
    [(content, [packed])] = view.told
    assert content == {"type": "plotly"}
    assert b"plotly.js" in gzip.decompress(packed)[:200]
    assert run_view.packed_plotly() is packed
    assert len(json.dumps({key: str(value) for key, value in view.get_state().items()})) < 50_000


def test_without_plotly_the_answer_says_so(view, monkeypatch):
    """Without plotly the view keeps its own picture."""
    monkeypatch.setattr(run_view, "packed_plotly", lambda: None)
    _press(view, type="need-plotly")
    assert view.told == [({"type": "plotly"}, [])]


def test_a_page_that_missed_points_gets_them(view, study):
    """A gap is healed from where it begins."""
    study.data = _data(6)
    _press(view, type="need-points", have=3)
    assert [row[0] for row in view.told[0][0]["points"]] == [3, 4, 5]


def test_unknown_messages_change_nothing(view, study):
    """A newer page may say what this kernel does not know."""
    _press(view, type="dance")
    assert (view.told, study.cancelled) == ([], 0)


def test_javascript():
    """What the page computes is right too."""
    if _NODE is None:
        assert os.environ.get("DSPEX_REQUIRE_BROWSER") != "1", "node is missing, and DSPEX_REQUIRE_BROWSER=1"
        pytest.skip("node is not installed")
    file = Path(__file__).with_name("run_view.test.mjs")
    done = subprocess.run([_NODE, "--test", file], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
