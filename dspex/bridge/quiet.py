"""What DSPy's optimizers print, draw and log goes to a logger while a study runs them.

They write to the process's own standard output and clear every progress bar there is, the user's too. Which
lines are a study's own is told by DSPy's settings, which travel into its worker threads.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import logging
from typing import TYPE_CHECKING, Any, ClassVar

import dspy
import optuna as _optuna  # noqa: F401  # its handlers must be there to be filtered
import tqdm  # type: ignore[import-untyped]
from dspy.evaluate import evaluate
from dspy.teleprompt import bootstrap, random_search, teleprompt_optuna
from dspy.teleprompt import utils as teleprompt_utils
from dspy.utils import parallelizer

from dspex.redact import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_log = quiet_logger("dspex.teleprompters")
SETTING = "dspex_study"
"""The DSPy setting that holds the study's name while it runs."""


def is_quiet() -> bool:
    """Whether this thread works for a study."""
    return dspy.settings.get(SETTING) is not None


class _NoBar:
    """A progress bar that draws nothing."""

    _instances: ClassVar[set[Any]] = set()

    def __init__(self, iterable: Iterable[Any] = (), **_options: Any) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    def __getattr__(self, name: str) -> Any:
        return lambda *_arguments, **_options: None


class _Bars:
    """Stands for the module tqdm: real bars outside a study, none within."""

    @property
    def tqdm(self) -> Any:
        return _NoBar if is_quiet() else tqdm.tqdm

    def __getattr__(self, name: str) -> Any:
        return getattr(tqdm, name)


def _bar(*arguments: Any, **options: Any) -> Any:
    return (_NoBar if is_quiet() else tqdm.tqdm)(*arguments, **options)


def _print(*values: Any, **options: Any) -> None:
    if is_quiet():
        _log.debug("%s", " ".join(map(str, values)))
    else:
        builtins.print(*values, **options)  # noqa: T201  # the user's own call, outside a study


class _Router(logging.Filter):
    """Hands a study's log lines to dspex's logger, which is silent unless asked."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not is_quiet():
            return True
        _log.debug("%s", record.getMessage())
        return False


@functools.cache
def install() -> None:
    """Put the listeners in place, once a process; outside a study they change nothing."""
    bars = _Bars()
    for module in (bootstrap, parallelizer, evaluate):
        module.tqdm = bars
    for module in (bootstrap, random_search, teleprompt_optuna, teleprompt_utils):
        module.print = _print
    with contextlib.suppress(ImportError):
        gepa = importlib.import_module("gepa.core.engine")
        gepa.tqdm = _bar  # type: ignore[attr-defined]
    for name in ("dspy", "optuna"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_Router())
