"""Studies shown live: what a cell is sent while one runs, and what stays when it has ended."""

from __future__ import annotations

import contextvars
import json
import sys
import threading

import pytest

import dspex as dx
from dspex import sandbox
from dspex.events import TrialFinished, TrialStarted
from dspex.notebook import live

pytest.importorskip("anywidget")

_WIDGET = "application/vnd.jupyter.widget-view+json"
_PAUSED_AT = 3


class Cell:
    """Stands in for IPython's `display` and the handle that it returns."""

    def __init__(self):
        self.outputs = []

    def __call__(self, bundle, *, raw, display_id):
        assert raw
        assert display_id
        self.outputs.append(bundle)
        return self

    def update(self, bundle, *, raw):
        assert raw
        self.outputs.append(bundle)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def began(runtime):
    """Begins a study that stops before its fourth trial is scored, until `go` is set."""
    paused, go = threading.Event(), threading.Event()
    go.set()

    def pause(event):
        if isinstance(event, TrialStarted) and event.number == _PAUSED_AT:
            go.clear()
            paused.set()

    def metric(example, prediction):
        go.wait(20)
        return dx.metrics.exact_match(example, prediction)

    runtime.events.subscribe(pause)
    task = sandbox.task("triage")
    study = runtime.optimize(
        dx.signature(task.signature, task.instructions),
        space=dx.Space(temperature=dx.Float(0, 1.5, default=0.7)),
        trainset=task.train[:12],
        metric=metric,
        optimizer="random",
        budget=dx.Budget(trials=6),
    )
    assert paused.wait(20)
    yield study, go
    go.set()
    study.cancel()
    study.wait()


def _shown(study, cell, clock=None):
    made = live.Shown(study, clock=clock or Clock())
    made.begin(cell)
    told = []
    if made.view is not None:
        made.view.send = lambda content, buffers=None: told.append(content)
    return made, told


def _merged(snapshot, deltas):
    points = list(snapshot["points"])
    for delta in deltas:
        points[delta["start"] : delta["start"] + len(delta["points"])] = delta["points"]
    return points


def test_deltas_add_up_to_the_snapshot(began):
    """A page that merges what it is told knows what a page that asks anew is told."""
    study, go = began
    shown, told = _shown(study, Cell())
    first = shown.snapshot()
    assert len(first["points"]) == _PAUSED_AT
    ticked = threading.Event()

    def tick(event):
        if isinstance(event, TrialFinished):
            shown.tick()
            ticked.set()

    study.events.subscribe(tick)
    go.set()
    study.wait()
    assert ticked.is_set()
    assert len(told) >= 2
    assert _merged(first, told) == shown.snapshot()["points"]
    assert len(shown.snapshot()["points"]) == 6


def test_a_trial_that_grows_is_sent_again(runtime):
    """A page that saw a trial with few examples is told when there are more."""
    task, made = sandbox.task("triage"), []

    def look(event):
        if isinstance(event, TrialFinished) and made:
            made[0][0].tick()

    runtime.events.subscribe(look)
    ready = threading.Event()

    def metric(example, prediction):
        if threading.current_thread().daemon:
            ready.wait(20)
        return dx.metrics.exact_match(example, prediction)

    study = runtime.optimize(
        dx.signature(task.signature, task.instructions),
        space=dx.Space(temperature=dx.Float(0, 1.5, default=0.7)),
        trainset=task.train[:24],
        metric=metric,
        budget=dx.Budget(trials=6),
    )
    made.append(_shown(study, Cell()))
    ready.set()
    study.wait()
    shown, told = made[0]
    assert any(
        delta["start"] < delta["points"][0][0] + 1 < len(study.trials) for delta in told if delta["points"]
    )
    assert _merged({"points": []}, told) == shown.snapshot()["points"]


def test_nothing_is_sent_when_nothing_is_new(began):
    """A tick without news costs no message; a second of waiting is news."""
    clock = Clock()
    shown, told = _shown(began[0], Cell(), clock)
    assert shown.tick()
    n_first = len(told)
    assert shown.tick()
    assert len(told) == n_first
    clock.now += 1
    shown.tick()
    assert len(told) == n_first + 1
    assert told[-1]["points"] == []
    assert told[-1]["status"]["running"] is None  # it began before anyone looked


def test_examples_of_the_running_trial_are_counted(began):
    """Between two trials the view says how far the running one is."""
    study, go = began
    shown, _ = _shown(study, Cell())
    seen = []
    study.events.subscribe(lambda _event: seen.append(shown.snapshot()["status"]["running"]))
    go.set()
    study.wait()
    assert [4, 0, 12, False] in seen
    assert [4, 12, 12, False] in seen


def test_cancel_message_cancels_the_study(began):
    """The button in the page ends the study, and the final picture says so."""
    study, go = began
    cell = Cell()
    shown, _ = _shown(study, cell)
    go.set()
    shown.view._handle_custom_msg({"type": "cancel"}, [])
    study.wait(20)
    assert study.state in {"cancelled", "finished"}
    assert not shown.tick()
    assert study.state in cell.outputs[-1]["text/html"]


def test_every_display_carries_widget_picture_and_text(began):
    """Lab shows the widget, a saved notebook the picture, a terminal the text."""
    study, go = began
    cell = Cell()
    _shown(study, cell)
    go.set()
    study.wait()
    assert len(cell.outputs) == 2
    for bundle in cell.outputs:
        assert set(bundle) == {_WIDGET, "text/html", "text/plain"}
        assert "<script" not in bundle["text/html"]
        assert "http" not in bundle["text/html"]
    assert "running" in cell.outputs[0]["text/html"]
    assert "finished" in cell.outputs[1]["text/html"]
    assert cell.outputs[0][_WIDGET] == cell.outputs[1][_WIDGET]


def test_who_waits_gets_the_final_picture_sent_from_their_own_thread(began):
    """What nbclient keeps is what the running cell sends, so the picture is sent from there."""
    study, go = began
    threads = []

    class Watched(Cell):
        def update(self, bundle, *, raw):
            threads.append(threading.current_thread())
            super().update(bundle, raw=raw)

    shown, _ = _shown(study, Watched())
    go.set()
    study.wait()
    assert threads == [threading.current_thread()]
    assert shown.is_settled
    assert not shown.tick()
    assert len(threads) == 1


def test_publisher_sends_in_the_context_of_the_starting_cell(began):
    """Only so does a page's answer find its way back after a reload."""
    cell_id = contextvars.ContextVar("cell_id", default="none")
    token = cell_id.set("the starting cell")
    shown, _ = _shown(began[0], Cell())
    cell_id.reset(token)
    seen = []
    shown.view.send = lambda _content, buffers=None: seen.append(cell_id.get())
    publisher = live.Publisher(period_s=0)
    sent = threading.Event()
    shown.view.send = lambda _content, buffers=None: (seen.append(cell_id.get()), sent.set())
    publisher.add(shown)
    assert sent.wait(10)
    assert set(seen) == {"the starting cell"}
    shown.is_settled = True


def test_publisher_goes_on_when_one_display_fails():
    """A display that raises is dropped; the others go on until they end, then the thread ends."""
    ended = threading.Event()

    class Failing:
        context = contextvars.copy_context()

        def tick(self):
            raise RuntimeError("the page is gone")

    class Counting:
        context = contextvars.copy_context()
        left = 3

        def tick(self):
            self.left -= 1
            if self.left == 0:
                ended.set()
            return self.left > 0

    publisher = live.Publisher(period_s=0)
    publisher.add(Counting())
    publisher.add(Failing())
    assert ended.wait(10)


def test_two_cells_show_one_study(began):
    """A second view of a running study is as good as the first."""
    study, go = began
    cells = [Cell(), Cell()]
    views = [_shown(study, cell)[0] for cell in cells]
    assert views[0].view.model_id != views[1].view.model_id
    go.set()
    study.wait()
    assert [cell.outputs[-1]["text/plain"] for cell in cells] == [cells[0].outputs[-1]["text/plain"]] * 2
    assert all(view.is_settled for view in views)


def test_finished_study_is_shown_whole_at_once(began):
    """Looking back needs no thread: the first display holds every point."""
    study, go = began
    go.set()
    study.wait()
    cell = Cell()
    shown, _ = _shown(study, cell)
    assert shown.is_settled
    assert len(cell.outputs) == 1
    assert "finished" in cell.outputs[0]["text/html"]
    assert len(shown.view.get_state()["snapshot"]["points"]) == 6
    study.wait()
    assert len(cell.outputs) == 1


def test_static_shows_no_widget(began, monkeypatch):
    """For papermill and CI: pictures and text only, the last one final."""
    monkeypatch.setattr(live, "static", True)
    study, go = began
    cell, clock = Cell(), Clock()
    shown, _ = _shown(study, cell, clock)
    clock.now += 60
    shown.tick()
    assert len(cell.outputs) == 1
    go.set()
    study.wait()
    assert [set(bundle) for bundle in cell.outputs] == [{"text/html", "text/plain"}] * 2
    assert "finished" in cell.outputs[-1]["text/html"]


def test_without_anywidget_the_picture_is_renewed_each_second(began, monkeypatch):
    """Without the extra one sees a little less, and still what happens."""
    monkeypatch.setitem(sys.modules, "dspex.notebook.widgets.run_view", None)
    cell, clock = Cell(), Clock()
    shown, _ = _shown(began[0], cell, clock)
    assert set(cell.outputs[0]) == {"text/html", "text/plain"}
    shown.tick()
    assert len(cell.outputs) == 1
    clock.now += 1
    shown.tick()
    assert len(cell.outputs) == 2


def test_outside_a_notebook_nothing_is_shown(began, capsys):
    """In a script or a terminal, studies stay quiet."""
    live.show(began[0])
    assert capsys.readouterr().out == ""


_CELLS = (
    """
import dspex as dx
from dspex.notebook import live
dx.configure(["sandbox/small"], store="memory")
task = dx.sandbox.task("triage")
""",
    """
study = dx.optimize(
    dx.signature(task.signature, task.instructions),
    space=dx.Space(temperature=dx.Float(0, 1.5, default=0.7)),
    trainset=task.train[:40],
    metric=dx.metrics.exact_match,
    budget=dx.Budget(trials=12),
)
live.show(study)
""",
    "study.wait();",
)


@pytest.mark.kernel
def test_saved_notebook_holds_the_final_picture_in_the_cell_that_began():
    """A notebook executed and saved without a browser shows the result, and stays small."""
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in _CELLS])
    nbclient.NotebookClient(notebook, timeout=90, kernel_name="python3").execute()

    shown = [output["data"] for output in notebook.cells[1].outputs if "data" in output]
    pictures = [data["text/html"] for data in shown if _WIDGET in data]
    assert pictures
    for picture in pictures:
        assert "finished" in picture
        assert picture.count("<title>trial ") == 12
        assert "<script" not in picture
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    last = [each["state"]["snapshot"] for each in states.values() if "snapshot" in each["state"]]
    assert [len(snapshot["points"]) for snapshot in last] == [12] * len(pictures)
    assert len(json.dumps(notebook)) < 200_000


@pytest.mark.kernel
def test_a_page_may_cancel_and_ask_for_plotly_in_a_real_kernel():
    """What a page sends through the kernel's comm reaches the study; plotly comes as one buffer."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    try:
        slow = "import time\ndef slow(example, prediction):\n    time.sleep(0.2)\n    return True\n"
        source = slow + _CELLS[0] + _CELLS[1].replace("dx.metrics.exact_match", "slow")
        opened = []

        def note(message):
            if message["msg_type"] == "comm_open" and "snapshot" in message["content"]["data"]["state"]:
                opened.append(message["content"]["comm_id"])

        client.execute_interactive(source, timeout=60, output_hook=note)
        for content in ({"type": "need-plotly"}, {"type": "cancel"}):
            data = {"method": "custom", "content": content}
            client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": opened[-1], "data": data}))
        buffers, is_cancelled = [], False
        while not (buffers and is_cancelled):
            message = client.get_iopub_msg(timeout=30)
            buffers += message["buffers"]
            told = message["content"].get("data", {})
            state = told.get("state", {}).get("snapshot", {}).get("status", {}) if "method" in told else {}
            is_cancelled = is_cancelled or state.get("state") == "cancelled"
        assert len(buffers) == 1
        assert len(buffers[0]) > 500_000
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
