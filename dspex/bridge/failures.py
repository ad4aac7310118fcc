"""Provider failures, whoever's client raised them, as ours: what it was, and what to do about it."""

from __future__ import annotations

import email.utils
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.errors import (
    AuthenticationError,
    BadResponseError,
    BillingError,
    ContextWindowExceededError,
    DspexError,
    ModelNotFoundError,
    ProviderError,
    RateLimitedError,
    RequestRefusedError,
    SchemaRefusedError,
    TimedOutError,
    UnavailableError,
    UnreadableAnswerError,
)
from dspex.redact import redact, scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspy.utils.exceptions import AdapterParseError

_CLIENTS = {"anthropic", "dspy", "httpcore", "httpx", "httpx2", "litellm", "lm15", "openai"}
_LONGEST_QUOTE = 300
_LONGEST_BEGINNING = 160
_BODY = re.compile(r" Body starts: ['\"](?P<first>[<{\[]).*", re.DOTALL)
"""What DSPy's client quotes of a page or of broken JSON, which tells nobody anything."""
_RULE_OF_THE_CLIENT = re.compile(r" \([A-Z]+-\d+\)$")
_OK = 200
_SERVER_ERROR = 500


class Rule(NamedTuple):
    """What marks one kind of failure; any one of the marks will do."""

    kind: type[ProviderError]
    summary: str
    hint: str
    codes: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    """Of the exception's class, or of one it inherits."""
    statuses: frozenset[int] = frozenset()
    words: re.Pattern[str] | None = None
    """In what the provider said."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


# The first rule that fits is taken: what a provider says is more telling than its status.
RULES = (
    Rule(
        BillingError,
        "wants to be paid first",
        "look at the account's plan and limits, or use another provider",
        _set("insufficient_quota billing_not_active billing"),
        _set("LMBillingError BillingError BudgetExceededError"),
        frozenset({402}),
        _words("insufficient_quota", "exceeded your current quota", "credit balance is too low"),
    ),
    Rule(
        ContextWindowExceededError,
        "was given a longer prompt than it can read",
        "shorten the inputs, use fewer demos, or a model with a larger context window",
        _set("context_length_exceeded context_window_exceeded"),
        _set("ContextWindowExceededError ContextLengthError"),
        words=_words("maximum context length", "context window", "prompt is too long"),
    ),
    Rule(
        SchemaRefusedError,
        "does not take the JSON schema that the answer shall follow",
        "simplify the output types, or ask for the chat format: dspy.ChatAdapter()",
        names=_set("JSONSchemaValidationError"),
        words=_words("invalid schema", r"response_format.{0,80}(?:not supported|unsupported|invalid)"),
    ),
    Rule(
        ModelNotFoundError,
        "has no such model, or not for this key",
        "compare the model's name with the provider's list",
        _set("model_not_found unsupported_model"),
        _set("LMUnsupportedModelError UnsupportedModelError UnknownModelError"),
        words=_words(r"\bmodel\b.{0,120}(?:does not exist|not found|is not available)"),
    ),
    Rule(
        AuthenticationError,
        "does not take the key",
        "set the provider's key in the environment, such as OPENAI_API_KEY, or pass api_key=...",
        _set("invalid_api_key auth not_configured"),
        _set(
            "AuthenticationError PermissionDeniedError LMAuthError AuthError LMNotConfiguredError NotConfiguredError"
        ),
        frozenset({401, 403}),
    ),
    Rule(
        RateLimitedError,
        "asks to be called again later",
        "wait, call less often, or add another provider",
        _set("rate_limit_exceeded rate_limit"),
        _set("RateLimitError LMRateLimitError"),
        frozenset({429}),
    ),
    Rule(
        TimedOutError,
        "did not answer in time",
        "give it more time with timeout=..., or add another provider",
        _set("timeout"),
        _set("APITimeoutError Timeout TimeoutException LMTimeoutError TimeoutError"),
        frozenset({408, 504}),
        _words(r"\btimed out\b"),
    ),
    Rule(
        BadResponseError,
        "sent what cannot be read",
        "try again; if it stays so, check that api_base leads to the API and not to a web page",
        names=_set(
            "JSONDecodeError UnicodeDecodeError DecodingError APIResponseValidationError LengthFinishReasonError "
            "LMStreamAssemblyError StreamAssemblyError LMCollectionLimitError CollectionLimitError"
        ),
        statuses=frozenset({_OK}),
        words=_words(
            "is not JSON",
            "line exceeds limit",
            "Unterminated string",
            "Expecting (?:value|property|',')",
            "codec can't decode",
        ),
    ),
    Rule(
        RequestRefusedError,
        "cannot be asked at this address",
        "check api_base: it usually ends in /v1",
        names=_set("InvalidURL UnsupportedProtocol LocalProtocolError"),
        statuses=frozenset({405}),
        words=_words("Invalid URL"),
    ),
    Rule(
        UnavailableError,
        "is not available",
        "try again later, check the address, or add another provider",
        names=_set(
            "APIConnectionError InternalServerError ServiceUnavailableError BadGatewayError LMTransportError "
            "TransportError LMServerError ServerError LMLockTimeoutError LockTimeoutError NetworkError ProtocolError "
            "ConnectionError"
        ),
        statuses=frozenset(range(_SERVER_ERROR, 600)),
    ),
    Rule(
        RequestRefusedError,
        "does not take this request",
        "look at what it says; the request must change",
        names=_set(
            "BadRequestError LMInvalidRequestError InvalidRequestError UnprocessableEntityError ConflictError "
            "NotFoundError LMUnsupportedFeatureError CapabilityError LMConfigurationError ConfigurationError "
            "ContentFilterFinishReasonError"
        ),
        statuses=frozenset(range(400, _SERVER_ERROR)),
    ),
    Rule(ProviderError, "failed in a way that is not known", "the cause stands above"),
)
_NEVER_SENT = _set("ConnectError ConnectTimeout PoolTimeout ConnectionRefusedError gaierror LockTimeoutError")
_NEVER_SENT_WORDS = _words("failed to connect", "connection refused", "name or service not known", "lock")


class Facts(NamedTuple):
    """What an exception tells, whichever client made it."""

    names: frozenset[str]
    status: int | None
    codes: frozenset[str]
    said: str
    who: str | None
    retry_after_s: float | None


def translate(
    error: BaseException, *, provider: str | None = None, now: Callable[[], float] = time.time
) -> DspexError | None:
    """Say in our words what a provider's failure was.

    Parameters
    ----------
    provider
        Whom to name, such as "openai/gpt-4o-mini"; what the error itself says if left out.
    now
        Seconds since 1970, for providers that say at what time to come back.

    Returns
    -------
    One of ours, without secrets; None for what is no provider's failure.

    Examples
    --------
    >>> from dspy import lm15
    >>> translate(lm15.RateLimitError("slow down", retry_after=2.0), provider="openai/gpt-4o-mini")
    RateLimitedError('openai/gpt-4o-mini asks to be called again later: slow down')
    >>> translate(KeyError("a mistake of ours")) is None
    True
    """
    if isinstance(error, DspexError):
        return error
    if not is_providers(error):
        return None
    facts = _facts(error, now)
    rule = next(rule for rule in RULES if _fits(rule, facts))
    who = provider or facts.who or "the provider"
    status = f" ({facts.status})" if facts.status is not None else ""
    said = _quote(facts.said)
    return rule.kind(
        f"{redact(who)} {rule.summary}{status}{': ' + said if said else ''}",
        provider=who,
        retry_after_s=facts.retry_after_s,
        possibly_billed=_possibly_billed(rule.kind, error, facts),
        hint=rule.hint,
    )


def unreadable(error: AdapterParseError, model: str) -> UnreadableAnswerError:
    """Say what DSPy could not read: as what, why if it says so, and how it begins."""
    text = str(error.lm_response)
    why = " ".join(str(error).partition(f"Adapter {error.adapter_name} failed")[0].split())[
        :_LONGEST_QUOTE
    ].rstrip(".")
    # Redacted before it is cut: half of a key has no telling shape.
    begins = " ".join(redact(text[: 2 * _LONGEST_BEGINNING])[:_LONGEST_BEGINNING].split())
    length = f" … ({len(text):,} characters)" if len(text) > _LONGEST_BEGINNING else ""
    return UnreadableAnswerError(
        redact(
            f"{model} answered what DSPy cannot read as {', '.join(error.signature.output_fields)}: "
            f"{why}{'; ' if why else ''}it wrote {begins!r}{length}"
        ),
        provider=model,
        hint="try again, use adapter='structured', or another model",
    )


@contextmanager
def translated(provider: str | None = None) -> Iterator[None]:
    """Raise what a provider's client raises inside as one of ours; mistakes in programs stay as they are."""
    try:
        yield
    except Exception as error:
        ours = translate(error, provider=provider)
        if ours is None or ours is error:
            raise
        raise ours from scrub(error)


def is_providers(error: BaseException) -> bool:
    """Whether an exception tells of a provider: a client's own, or one that came out of its code."""
    if not isinstance(error, Exception):
        return False
    roots = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    if "dspy" in roots:
        return bool({"LMError", "LM15Error"} & _names(error))
    if roots & _CLIENTS:
        return True
    return isinstance(error, OSError | ValueError) and _came_out_of_a_client(error)


def _came_out_of_a_client(error: BaseException) -> bool:
    """Whether a plain error, such as of JSON that ends too early, was raised while a client read an answer."""
    frame = error.__traceback__
    while frame is not None:
        module = str(frame.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] in _CLIENTS - {"dspy"} or module.startswith("dspy._vendor.lm15"):
            return True
        frame = frame.tb_next
    return False


def _fits(rule: Rule, facts: Facts) -> bool:
    return (
        rule.kind is ProviderError
        or bool(rule.codes & facts.codes)
        or bool(rule.names & facts.names)
        or facts.status in rule.statuses
        or (rule.words is not None and rule.words.search(facts.said) is not None)
    )


def _facts(error: BaseException, now: Callable[[], float]) -> Facts:
    response = getattr(error, "response", None)
    statuses = [getattr(error, "status", None), getattr(error, "status_code", None)]
    statuses.append(getattr(response, "status_code", None))
    body = _body(error, response)
    codes = [
        getattr(error, "provider_code", None),
        getattr(error, "code", None),
        body.get("code"),
        body.get("type"),
    ]
    said = body.get("message") or getattr(error, "message", None) or str(error)
    return Facts(
        _names(error),
        next((status for status in statuses if isinstance(status, int)), None),
        frozenset(code for code in codes if isinstance(code, str)),
        str(said),
        _who(error),
        _retry_after_s(error, response, now),
    )


def _names(error: BaseException) -> frozenset[str]:
    return frozenset(cls.__name__ for cls in type(error).__mro__)


def _body(error: BaseException, response: Any) -> dict[str, Any]:
    """Find the provider's own error object."""
    body = getattr(error, "body", None)
    if not isinstance(body, dict) and type(error).__name__ == "HTTPStatusError":
        try:
            body = response.json()
        except (ValueError, RuntimeError):  # a page, or a stream that nobody has read
            body = None
    if not isinstance(body, dict):
        return {}
    inner = body.get("error", body)
    return inner if isinstance(inner, dict) else {"message": inner}


def _who(error: BaseException) -> str | None:
    model, maker = getattr(error, "model", None), getattr(error, "llm_provider", None)
    if isinstance(model, str) and model:
        return f"{maker}/{model}" if isinstance(maker, str) and maker else model
    try:
        return str(error.request.url.host)  # type: ignore[attr-defined]  # openai's and httpx's have one
    except (AttributeError, RuntimeError):  # httpx raises if there was no request
        return None


def _retry_after_s(error: BaseException, response: Any, now: Callable[[], float]) -> float | None:
    said = getattr(error, "retry_after", None)
    if isinstance(said, int | float):
        return float(said)
    headers = getattr(response, "headers", None)
    if headers is None:
        return None
    milliseconds, after = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        return None if after is None else max(0.0, float(after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - now())
    except ValueError:
        return None


def _possibly_billed(kind: type[ProviderError], error: BaseException, facts: Facts) -> bool:
    """Whether the request had left when it failed, and no answer says that nothing was done."""
    if not issubclass(kind, UnavailableError | BadResponseError):
        return False
    if _was_never_sent(error, facts):
        return False
    return kind.possibly_billed or facts.status is None or "Connection error" in facts.said


def _was_never_sent(error: BaseException, facts: Facts) -> bool:
    each: BaseException | None = error
    while each is not None:
        if _names(each) & _NEVER_SENT:
            return True
        each = each.__cause__ or each.__context__
    return facts.status is None and _NEVER_SENT_WORDS.search(facts.said) is not None


def _quote(said: str) -> str:
    """Quote what a provider said, in a line or four, without secrets and without pages of HTML."""
    said = redact(said).strip()
    if said[:1] == "<":
        return "a page of HTML"
    # DSPy's advice stands below an empty line; ours takes its place.
    said = " ".join(said.partition("\n\n")[0].split())
    said = _BODY.sub(lambda found: " It is a page of HTML." if found["first"] == "<" else "", said)
    said = _RULE_OF_THE_CLIENT.sub("", said)
    return said if len(said) <= _LONGEST_QUOTE else said[: _LONGEST_QUOTE - 1] + "…"
