"""The live view of a study: what its JavaScript twin is told, and what it may ask for."""

from __future__ import annotations

import functools
import gzip
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspex.notebook.plots.run import Point, RunData

    Message = Mapping[str, Any]

_STATIC = Path(__file__).parents[1] / "static"


class RunView(anywidget.AnyWidget):  # type: ignore[misc]  # anywidget is untyped here
    """A study in a notebook cell: progress, scores, cost, and a button that cancels it.

    The page keeps one snapshot, which is asked for when a page opens (also after a reload), and merges
    the deltas that are sent in between. plotly.js never becomes part of the state: a page asks once.

    Parameters
    ----------
    read
        Returns the snapshot as it is now, see `snapshot`.
    cancel
        Called when the user presses Cancel, on whichever thread the kernel answers messages.
    """

    _esm = _STATIC / "run_view.mjs"
    _css = _STATIC / "dspex.css"
    # The trait holds the function that reads the snapshot: the state is always today's, and setting
    # points costs no message.
    snapshot = traitlets.Any().tag(sync=True, to_json=lambda read, _view: read())

    def __init__(self, *, read: Callable[[], Message], cancel: Callable[[], None]) -> None:
        self._read = read
        self._cancel = cancel
        super().__init__(snapshot=read)
        self.on_msg(self._answer)

    def _answer(self, _view: RunView, content: Message, _buffers: Sequence[bytes]) -> None:
        """Do what the page asks for."""
        match content.get("type"):
            case "cancel":
                self._cancel()
            case "need-plotly":
                packed = packed_plotly()
                self.send({"type": "plotly"}, buffers=[] if packed is None else [packed])
            case "need-points":
                self.send(delta(self._read(), start=int(content.get("have", 0))))


@functools.cache
def packed_plotly() -> bytes | None:
    """Return plotly.js, gzipped (1.5 MB); None where plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return None
    return gzip.compress(get_plotlyjs().encode(), compresslevel=6)


def snapshot(
    data: RunData, *, running: tuple[int, int, int, bool] | None = None, elapsed_s: float | None = None
) -> Message:
    """Say everything that the view draws, as JSON.

    Parameters
    ----------
    running
        What is being scored: the newest trial's number, how many examples are done, of how many, and whether
        these are finalists.
    elapsed_s
        Seconds so far, the running trial included; None takes what the finished trials took.
    """
    return {
        "name": data.name,
        "variables": list(data.variables),
        "points": [_row(point) for point in data.points],
        "status": {
            "state": data.state,
            "reason": data.pause or data.reason,
            "planned": data.planned_trials,
            "planned_scores": data.planned_scores,
            "best": None if data.best is None else data.best.number,
            "default": _finite(data.default_score),
            "cost_usd": round(data.cost_usd, 6),
            "elapsed_s": int(data.elapsed_s if elapsed_s is None else elapsed_s),
            "simulated": data.is_simulated,
            "running": None if running is None else list(running),
        },
    }


def delta(full: Message, *, start: int) -> Message:
    """Say what is new, or known better, after the first `start` points; told twice or late, it does no harm."""
    return {
        "type": "delta",
        "start": start,
        "points": full["points"][start:],
        "status": full["status"],
    }


def _row(point: Point) -> list[Any]:
    """Give a point as a short list; `point` in run_view.mjs reads it."""
    return [
        point.number,
        _finite(point.score),
        None if point.stderr is None else round(point.stderr, 4),
        point.n_examples,
        point.n_failed,
        round(point.cost_usd, 6),
        int(point.is_final),
        list(point.values),
    ]


def _finite(value: float | None) -> float | None:
    """Return what JSON can say: it has no infinity."""
    return round(value, 6) if value is not None and math.isfinite(value) else None
