"""Every exception that dspex raises, in one tree.

::

    DspexError                     message, hint (the next step), retryable
    ├── DefinitionError            what was written is wrong; nothing has run
    │   ├── SignatureError         a signature spec, with a caret under the place
    │   ├── TemplateError          a prompt template, or the values it is filled with
    │   ├── VariableError          a variable, a space, or a configuration
    │   ├── UnknownNameError       a name that is not there, with the nearest that is
    │   ├── ValuesError            values that do not fit a signature's fields, all at once
    │   └── DataError              examples, a metric, or a budget
    ├── ExecutionError             running it went wrong
    │   ├── ProviderError          a model answered with an error (provider, retry_after_s)
    │   │   ├── RateLimitedError   … asks us to come back later
    │   │   ├── UnavailableError   … is down
    │   │   │   ├── TimedOutError      … took longer than it was given
    │   │   │   └── CircuitOpenError   … failed so often that it was not asked; a pool, too
    │   │   ├── BadResponseError   … sent what cannot be read
    │   │   │   └── UnreadableAnswerError   … or not in the form that was asked for
    │   │   ├── AuthenticationError   … does not take the key
    │   │   ├── BillingError       … wants to be paid first
    │   │   └── RequestRefusedError   … does not take this request
    │   │       ├── ModelNotFoundError
    │   │       ├── ContextWindowExceededError
    │   │       └── SchemaRefusedError
    │   ├── OverloadedError        too much is waiting already (retry_after_s)
    │   ├── BudgetError            what may be spent is spent (spent)
    │   ├── ExhaustedError         every allowed strategy was tried and failed
    │   ├── CancelledError         somebody asked for it to stop
    │   ├── PoolError              a pool of workers could not do it
    │   │   ├── WorkerStartError       no worker can be started
    │   │   ├── WorkerCrashedError     the worker died with the task (kind, exit_code)
    │   │   │   └── PoisonTaskError    … and so did the next one: it is not tried again
    │   │   ├── WorkerMemoryError      the task wanted more than its worker may hold
    │   │   ├── TaskTimeoutError       it waited or ran too long
    │   │   ├── PoolSaturatedError     too many tasks wait already (retry_after_s)
    │   │   ├── PoolClosedError        it takes no more tasks
    │   │   ├── WorkerBusyError        a session's worker is busy, and the session does not wait
    │   │   ├── SessionLostError       a session's worker is gone, and its state with it
    │   │   ├── ClusterError           a dask cluster cannot be used
    │   │   ├── ShippingError          something cannot travel between processes
    │   │   └── RemoteError            stands for an exception that cannot
    │   ├── StaleVersionError      shared values have changed since they were read
    │   ├── LeaseError             somebody else has the variable, or it was taken away
    │   └── StoreError             what happened could not be kept
    └── NotSupportedError          a fast way is not proven for this; the general way is taken
"""

from __future__ import annotations

import difflib
import reprlib
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Category = Literal[
    "general",
    "definition",
    "execution",
    "provider",
    "rate_limit",
    "availability",
    "response",
    "authentication",
    "billing",
    "request",
    "overload",
    "pool",
]
"""What a failure is about, for whoever counts or filters them."""

Severity = Literal["warning", "error", "critical"]
"""Passes by itself; this call is lost; nothing will work until somebody acts."""


class DspexError(Exception):
    """The root of every exception that dspex raises.

    Parameters
    ----------
    message
        The rule that was broken and the values that broke it.
    hint
        What to do next, as a sentence.
    """

    retryable: bool = False
    category: Category = "general"
    severity: Severity = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  → {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle as class(*args); what came in as keywords travels in the state.
        return type(self), (self.message,), self.__dict__

    def _render_traceback_(self) -> list[str]:
        """Show the message instead of the stack: IPython asks for this."""
        return [f"\x1b[31m{type(self).__name__}\x1b[0m: {self}"]


class DefinitionError(DspexError):
    """What the user wrote is wrong; no work has been started."""

    category = "definition"

    @classmethod
    def at(cls, text: str, position: int, message: str, *, hint: str | None = None) -> Self:
        """Point at a character of what was written with a caret."""
        line_start = text.rfind("\n", 0, position) + 1
        line_end = text.find("\n", position)
        line = text[line_start : line_end if line_end >= 0 else len(text)]
        caret = " " * (position - line_start) + "^"
        return cls(f"{message}\n  {line}\n  {caret}", hint=hint)


class SignatureError(DefinitionError):
    """A signature spec cannot be read."""


class TemplateError(DefinitionError):
    """A prompt template cannot be read, or cannot be filled with the given values."""


class VariableError(DefinitionError):
    """A variable, a space of them, or a configuration breaks a rule."""

    @classmethod
    def of_all(cls, subject: str, failures: Sequence[str], *, hint: str | None = None) -> VariableError:
        """Report every failure at once, one a line."""
        return cls("\n".join([subject, *(f"  - {failure}" for failure in failures)]), hint=hint)


class UnknownNameError(DefinitionError, KeyError):
    """A name that is not known, together with the nearest one that is.

    It is a `KeyError` too, so that mappings which raise it keep Python's own contract.
    """

    @classmethod
    def among(
        cls, kind: str, name: object, known: Iterable[str], *, hint: str | None = None
    ) -> UnknownNameError:
        """Say which names there are and which was probably meant."""
        names = sorted(known)
        if hint is None and names:
            kinds = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
            hint = did_you_mean(str(name), names) or f"use one of the {kinds} listed above"
        return cls(f"unknown {kind} {name!r}; known: {', '.join(names) or 'none'}", hint=hint)


class Failure(NamedTuple):
    """One thing that is wrong with a value: where, what was expected, what was there, what to do."""

    path: str
    expected: str
    """A type or a rule; the whole sentence if `actual` is None."""
    actual: str | None = None
    hint: str | None = None

    @property
    def text(self) -> str:
        """The failure as one line."""
        problem = self.expected if self.actual is None else f"expected {self.expected}, got {self.actual}"
        line = f"{self.path}: {problem}" if self.path else problem
        return line if self.hint is None else f"{line}; {self.hint}"

    def under(self, path: str) -> Failure:
        """Return it as seen from further up."""
        return self._replace(path=path + self.path)


class ValuesError(DefinitionError):
    """Values do not fit a signature's fields; `failures` holds every reason."""

    failures: tuple[Failure, ...] = ()
    _most_shown: ClassVar[int] = 20

    @classmethod
    def of_all(cls, subject: str, failures: Sequence[Failure]) -> ValuesError:
        """Report every failure at once, one a line; past twenty, only how many more there are."""
        lines = [f"  - {failure.text}" for failure in failures[: cls._most_shown]]
        if len(failures) > cls._most_shown:
            lines.append(f"  - and {len(failures) - cls._most_shown} more")
        made = cls("\n".join([subject, *lines]))
        made.failures = tuple(failures)
        return made


class DataError(DefinitionError):
    """Examples, a metric or a budget cannot be used."""


class ExecutionError(DspexError):
    """Running something failed."""

    category: Category = "execution"


class ProviderError(ExecutionError):
    """A model answered with an error.

    Parameters
    ----------
    provider
        Who, such as "openai/gpt-4o-mini".
    retry_after_s
        When it wants to be asked again, if it said so.
    possibly_billed
        Whether the provider may have done the work, so that asking again may be paid for twice;
        the class's own answer if left out.
    """

    category: Category = "provider"
    possibly_billed: bool = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        retry_after_s: float | None = None,
        possibly_billed: bool | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.provider = provider
        self.retry_after_s = retry_after_s
        if possibly_billed is not None:
            self.possibly_billed = possibly_billed


class RateLimitedError(ProviderError):
    """A provider asks to be called again later."""

    retryable = True
    category = "rate_limit"
    severity = "warning"


class UnavailableError(ProviderError):
    """A provider is down."""

    retryable = True
    category = "availability"
    severity = "warning"


class TimedOutError(UnavailableError):
    """An answer took longer than it was given; the provider may have worked on it, and bill it."""

    possibly_billed = True


class CircuitOpenError(UnavailableError):
    """A provider, or a pool, failed so often that it was not asked; `retry_after_s` says when it will be."""


class BadResponseError(ProviderError):
    """A provider sent what cannot be read: broken JSON, too much of it, or the wrong bytes."""

    retryable = True
    category = "response"
    possibly_billed = True


class UnreadableAnswerError(BadResponseError):
    """A model answered, but not in the form that was asked for; its provider is well."""


class AuthenticationError(ProviderError):
    """A provider does not take the key."""

    category = "authentication"
    severity = "critical"


class BillingError(ProviderError):
    """A provider wants to be paid first."""

    category = "billing"
    severity = "critical"


class RequestRefusedError(ProviderError):
    """A provider does not take this request, however often it is sent."""

    category = "request"


class ModelNotFoundError(RequestRefusedError):
    """A provider has no such model, or not for this key."""


class ContextWindowExceededError(RequestRefusedError):
    """A prompt is longer than the model can read."""


class SchemaRefusedError(RequestRefusedError):
    """A provider does not take the JSON schema that the answer shall follow."""


class OverloadedError(ExecutionError):
    """Too much is waiting already; `retry_after_s` says how long what waits will take."""

    retryable = True
    category = "overload"
    severity = "warning"

    def __init__(self, message: str, *, retry_after_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class BudgetError(ExecutionError):
    """What may be spent is spent, so the next call was not made; `spent` says what was, in words."""

    category = "billing"

    def __init__(self, message: str, *, spent: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.spent = spent


class ExhaustedError(ExecutionError):
    """Every strategy that was allowed has been tried and has failed; `failures` holds what each one met.

    Where all of them met the same kind of failure, `category` and `severity` are that failure's.
    """

    failures: tuple[DspexError, ...] = ()


class CancelledError(ExecutionError):
    """The work was cancelled before it was done."""


class PoolError(ExecutionError):
    """A pool of workers could not do what it was asked to."""

    category: Category = "pool"


class WorkerStartError(PoolError):
    """No worker can be started."""


class WorkerCrashedError(PoolError):
    """A worker died with a task.

    Parameters
    ----------
    kind
        How: ``segfault``, ``abort``, ``killed``, ``exit``, ….
    exit_code
        The exit code, or the signal's number below zero.
    """

    def __init__(
        self, message: str, *, kind: str = "unknown", exit_code: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.exit_code = exit_code


class PoisonTaskError(WorkerCrashedError):
    """A call has cost several workers and is not tried again."""


class WorkerMemoryError(PoolError, MemoryError):
    """A task wanted more memory than its worker may hold."""

    def __init__(
        self,
        message: str,
        *,
        limit_mib: int | None = None,
        peak_mib: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.limit_mib = limit_mib
        self.peak_mib = peak_mib


class TaskTimeoutError(PoolError, TimeoutError):
    """A task waited, or ran, for too long."""


class PoolSaturatedError(PoolError):
    """Too many tasks wait already."""

    retryable = True
    category = "overload"
    severity = "warning"

    def __init__(self, message: str, *, retry_after_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class PoolClosedError(PoolError, RuntimeError):
    """A pool was closed and takes no more tasks; a `RuntimeError` too, as from any executor."""


class WorkerBusyError(PoolError):
    """A session's worker is busy, and the session does not wait."""

    retryable = True
    category = "overload"
    severity = "warning"


class SessionLostError(PoolError):
    """A session's worker is gone, and its state with it."""


class ClusterError(PoolError):
    """A dask cluster cannot be reached, or cannot be used."""

    @classmethod
    def of_all(cls, subject: str, failures: Sequence[str], *, hint: str | None = None) -> ClusterError:
        """Report every failure at once, one a line."""
        return cls("\n".join([subject, *(f"  - {failure}" for failure in failures)]), hint=hint)


class ShippingError(PoolError):
    """Something cannot travel between processes."""


class RemoteError(PoolError):
    """Stands for an exception of a worker that cannot travel; its class, text and traceback are kept."""

    def __init__(
        self, message: str, *, kind: str = "unknown", traceback: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.traceback = traceback

    @classmethod
    def of(cls, error: BaseException, traceback: str) -> RemoteError:
        """Keep what can be kept of an exception."""
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        try:
            text = str(error)
        except Exception as failure:  # noqa: BLE001  # an exception's own __str__ may be broken
            text = f"(its text cannot be read: {failure!r})"
        return cls(f"{kind}: {text}", kind=kind, traceback=traceback)


class StaleVersionError(ExecutionError):
    """Shared values have changed since they were read; `version` and `configuration` are what they are now."""

    def __init__(
        self,
        message: str,
        *,
        version: int = 0,
        configuration: Mapping[str, object] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.version = version
        self.configuration = dict(configuration or {})


class LeaseError(ExecutionError):
    """A variable is leased by somebody else, or a lease is held no longer."""


class StoreError(ExecutionError):
    """Something could not be kept in, or read from, the store."""


class NotSupportedError(DspexError):
    """A fast way is not proven for what it was given; whoever offers it takes the general way then."""


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Suggest the nearest known name.

    Examples
    --------
    >>> did_you_mean("becon", ["beacon", "random"])
    "did you mean 'beacon'?"
    """
    by_folded = {candidate.lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.5)
    return f"did you mean {by_folded[nearest[0]]!r}?" if nearest else None


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 40


def shown(value: object) -> str:
    """Write a value short, with its type.

    Examples
    --------
    >>> shown("3"), shown(None)
    ("'3' (str)", 'None')
    """
    return "None" if value is None else f"{_REPR.repr(value)} ({type(value).__name__})"
