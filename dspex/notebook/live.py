"""Studies shown live: one display per cell, kept up to date by one thread per kernel."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from IPython import get_ipython
from IPython.display import display

from dspex.events import Event, ExampleScored, StudyAwaited, TrialFinished, TrialStarted
from dspex.notebook.plots import run as run_plot
from dspex.redact import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspex.notebook.widgets.run_view import RunView
    from dspex.optimizers.study import Study

_log = quiet_logger("dspex.notebook")
_PERIOD_S = 1 / 6
"""Between two looks at the studies: fast enough to feel live, slow enough for any page to keep up."""
_TOTALS_PERIOD_S = 1.0
"""Between two readings of the cost, which walks through the whole ledger."""

static = os.environ.get("DSPEX_STATIC", "") not in {"", "0"}
"""Whether studies are shown without widgets: pictures and text only, for papermill and CI."""


def show(study: Study) -> None:
    """Show a study in the running cell, live until it ends; outside a notebook, do nothing.

    The display also holds a picture and a text, so that a saved notebook shows the result without a kernel.
    Set ``dspex.notebook.live.static = True``, or the environment variable ``DSPEX_STATIC=1``, for no widgets.
    """
    if not hasattr(get_ipython(), "kernel"):
        return
    shown = Shown(study)
    shown.begin(display)
    if not shown.is_settled:
        _publisher.add(shown)


class Handle(Protocol):
    """What IPython's `display` returns: the way to replace what was displayed."""

    def update(self, obj: Any, *, raw: bool) -> None:
        """Replace it wherever it is shown."""


class Shown:
    """One study, displayed in one cell.

    Attributes
    ----------
    context
        The context variables of that cell. Whatever another thread sends must be sent in it: ipykernel
        routes what a page answers by the last message it got, so that Cancel would otherwise go to
        whatever ran last, and be lost once that is gone.
    view
        The widget; None where there are none.
    is_settled
        Whether the final picture is in place.
    """

    def __init__(self, study: Study, *, clock: Callable[[], float] = time.time) -> None:
        self.context = contextvars.copy_context()
        self.view: RunView | None = None
        self.is_settled = False
        self._study = study
        self._clock = clock
        self._handle: Handle | None = None
        self._stop_listening: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._data, self._data_at = self._read(), clock()
        self._running: dict[int, _Running] = {}
        self._running_since = clock()
        self._sent: list[Any] = []
        self._sent_status: Mapping[str, Any] | None = None
        self._sent_html_at = clock()

    def begin(self, show_in_cell: Callable[..., Any]) -> None:
        """Display the study in the running cell; if it is still running, listen to it.

        Parameters
        ----------
        show_in_cell
            IPython's `display`.
        """
        self._stop_listening = self._study.events.subscribe(self._on_event)
        self.is_settled = self._study.is_done
        self.view = self._make_view()
        self._handle = show_in_cell(self.bundle(), raw=True, display_id=True)
        if self.is_settled:
            self._stop_listening()

    def bundle(self) -> dict[str, Any]:
        """Return the display in every form: the widget, a picture, and a text."""
        data = self._read()
        made: dict[str, Any] = {
            "text/plain": run_plot.run_text(data),
            "text/html": run_plot.run_html(data),
        }
        if self.view is not None:
            made["application/vnd.jupyter.widget-view+json"] = {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.view.model_id,
            }
        return made

    def snapshot(self) -> Mapping[str, Any]:
        """Say everything that a page needs to draw the study as it is now."""
        from dspex.notebook.widgets import run_view

        data, running = self._fresh(), list(self._running.values())
        if data.state != "running":
            return run_view.snapshot(data)
        elapsed_s = data.elapsed_s
        if not all(each.is_finished for each in running) or not running:
            elapsed_s += max(0.0, self._clock() - self._running_since)
        return run_view.snapshot(data, running=_together(running), elapsed_s=elapsed_s)

    def tick(self) -> bool:
        """Send what is new; False once the study has ended and its final picture is in place."""
        with self._lock:
            if not self.is_settled:
                if self._study.is_done:
                    self._settle()
                else:
                    self._send_news()
            return not self.is_settled

    def _send_news(self) -> None:
        if self.view is None:
            self._refresh_picture()
            return
        from dspex.notebook.widgets import run_view

        full = self.snapshot()
        points, known = full["points"], self._sent
        # Trials that were sent before may have grown: what is sent begins with the first of them.
        start = next(
            (k for k, pair in enumerate(zip(points, known, strict=False)) if pair[0] != pair[1]), len(known)
        )
        if start == len(points) and full["status"] == self._sent_status:
            return
        self.view.send(run_view.delta(full, start=start))
        self._sent, self._sent_status = points, full["status"]

    def _refresh_picture(self) -> None:
        """Keep a display without a widget roughly up to date."""
        now = self._clock()
        if self._handle is not None and not static and now - self._sent_html_at >= _TOTALS_PERIOD_S:
            self._sent_html_at = now
            self._handle.update(self.bundle(), raw=True)

    def _settle(self) -> None:
        """Put the final picture in place; doing it again, from another cell, is harmless."""
        if self._handle is not None:
            if self.view is not None:
                self.view.send_state("snapshot")
            self._handle.update(self.bundle(), raw=True)
        self.is_settled = True

    def _on_event(self, event: Event) -> None:
        """Note what happened; runs on the study's threads."""
        match event:
            case TrialStarted(study=self._study.name) as began:
                if all(each.is_finished for each in self._running.values()):
                    self._running, self._running_since = {}, self._clock()
                self._running = {**self._running, began.number: _Running(began)}
            case ExampleScored(study=self._study.name, number=number) if number in self._running:
                self._running[number].n_done += 1
            case TrialFinished(study=self._study.name, trial=trial) if trial.number in self._running:
                self._running[trial.number].is_finished = True
            case StudyAwaited(study=self._study.name):
                # Sent once more from the cell that waited: nbclient, which saves notebooks, keeps only
                # what belongs to the cell that is running.
                with self._lock:
                    self._settle()
                if self._stop_listening is not None:
                    self._stop_listening()

    def _make_view(self) -> RunView | None:
        if static:
            return None
        try:
            from dspex.notebook.widgets.run_view import RunView
        except ImportError:  # anywidget is an extra
            return None
        return RunView(read=self.snapshot, cancel=self._study.cancel)

    def _fresh(self) -> run_plot.RunData:
        """Return the data, read again if a trial ended or the totals are old."""
        is_old = self._clock() - self._data_at >= _TOTALS_PERIOD_S
        is_stale = self._read_trials != self._study.finished_trials
        if is_old or is_stale or self._data.state != self._study.state:
            self._data, self._data_at = self._read(), self._clock()
        return self._data

    def _read(self) -> run_plot.RunData:
        self._read_trials = self._study.finished_trials
        return run_plot.run_data(self._study)


class _Running:
    """A trial that is being scored."""

    def __init__(self, began: TrialStarted) -> None:
        self.began = began
        self.n_done = 0
        self.is_finished = False


def _together(running: Sequence[_Running]) -> tuple[int, int, int, bool] | None:
    """Return the newest number, how many examples are done, of how many, and whether these are finalists."""
    if not running:
        return None
    return (
        max(each.began.number for each in running),
        sum(each.n_done for each in running),
        sum(each.began.n_examples for each in running),
        any(each.began.phase == "final" for each in running),
    )


class Publisher:
    """The kernel's one thread that keeps every shown study up to date; it lives while one runs."""

    def __init__(self, period_s: float = _PERIOD_S) -> None:
        self._period_s = period_s
        self._lock = threading.Lock()
        self._shown: tuple[Shown, ...] = ()
        self._is_alive = False

    def add(self, shown: Shown) -> None:
        """Keep a display up to date until its study has ended."""
        with self._lock:
            self._shown = (*self._shown, shown)
            if not self._is_alive:
                self._is_alive = True
                threading.Thread(target=self._run, name="dspex-publisher", daemon=True).start()

    def _run(self) -> None:
        while True:
            ended = {shown for shown in self._shown if not _ticked(shown)}
            with self._lock:
                self._shown = tuple(shown for shown in self._shown if shown not in ended)
                if not self._shown:
                    self._is_alive = False
                    return
            time.sleep(self._period_s)


def _ticked(shown: Shown) -> bool:
    try:
        return shown.context.run(shown.tick)
    except Exception:  # noqa: BLE001  # logged below; one display that fails must not stop the others
        _log.exception("a study is no longer shown live")
        return False


_publisher = Publisher()
