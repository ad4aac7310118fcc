"""Native first, fallback second: a fast way is taken where it is proven, and the general way elsewhere."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from dspex.errors import NotSupportedError
from dspex.redact import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = quiet_logger("dspex")


class native_first(Generic[_P, _T]):  # noqa: N801  # it reads as the function that it is used as
    """Make a function that runs `native`, and `fallback` where that raises `NotSupportedError`.

    No other error leads to the fallback: what the user got wrong is said once, not tried twice. Each fallback is
    counted by its reason and logged at debug level.

    Examples
    --------
    >>> def halve_even(number):
    ...     if number % 2:
    ...         raise NotSupportedError("an odd number")
    ...     return number // 2
    >>> halve = native_first(halve_even, lambda number: number / 2)
    >>> halve(4), halve(3), halve.fallbacks
    (2, 1.5, {'an odd number': 1})
    """

    def __init__(self, native: Callable[_P, _T], fallback: Callable[_P, _T]) -> None:
        self._native, self._fallback = native, fallback
        self._reasons: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run the native way, or the fallback."""
        try:
            return self._native(*args, **kwargs)
        except NotSupportedError as error:
            with self._lock:
                self._reasons[error.message] += 1
            _log.debug("%s falls back: %s", self._native.__qualname__, error.message)
        return self._fallback(*args, **kwargs)

    @property
    def fallbacks(self) -> Mapping[str, int]:
        """Reason → how often it led to the fallback in this process."""
        with self._lock:
            return dict(self._reasons)
