import pickle

import pytest

from dspex import errors
from dspex.errors import (
    AuthenticationError,
    BadResponseError,
    BillingError,
    BudgetError,
    CancelledError,
    CircuitOpenError,
    ClusterError,
    ContextWindowExceededError,
    DataError,
    DefinitionError,
    DspexError,
    ExecutionError,
    ExhaustedError,
    Failure,
    LeaseError,
    ModelNotFoundError,
    NotSupportedError,
    OverloadedError,
    PoisonTaskError,
    PoolClosedError,
    PoolError,
    PoolSaturatedError,
    ProviderError,
    RateLimitedError,
    RemoteError,
    RequestRefusedError,
    SchemaRefusedError,
    SessionLostError,
    ShippingError,
    SignatureError,
    StaleVersionError,
    StoreError,
    TaskTimeoutError,
    TemplateError,
    TimedOutError,
    UnavailableError,
    UnknownNameError,
    UnreadableAnswerError,
    ValuesError,
    VariableError,
    WorkerBusyError,
    WorkerCrashedError,
    WorkerMemoryError,
    WorkerStartError,
    did_you_mean,
)

PARENTS = {
    DspexError: Exception,
    DefinitionError: DspexError,
    SignatureError: DefinitionError,
    TemplateError: DefinitionError,
    VariableError: DefinitionError,
    UnknownNameError: DefinitionError,
    ValuesError: DefinitionError,
    DataError: DefinitionError,
    ExecutionError: DspexError,
    ProviderError: ExecutionError,
    RateLimitedError: ProviderError,
    UnavailableError: ProviderError,
    TimedOutError: UnavailableError,
    CircuitOpenError: UnavailableError,
    BadResponseError: ProviderError,
    UnreadableAnswerError: BadResponseError,
    AuthenticationError: ProviderError,
    BillingError: ProviderError,
    RequestRefusedError: ProviderError,
    ModelNotFoundError: RequestRefusedError,
    ContextWindowExceededError: RequestRefusedError,
    SchemaRefusedError: RequestRefusedError,
    OverloadedError: ExecutionError,
    BudgetError: ExecutionError,
    ExhaustedError: ExecutionError,
    CancelledError: ExecutionError,
    PoolError: ExecutionError,
    WorkerStartError: PoolError,
    WorkerCrashedError: PoolError,
    PoisonTaskError: WorkerCrashedError,
    WorkerMemoryError: PoolError,
    TaskTimeoutError: PoolError,
    PoolSaturatedError: PoolError,
    PoolClosedError: PoolError,
    WorkerBusyError: PoolError,
    ClusterError: PoolError,
    SessionLostError: PoolError,
    ShippingError: PoolError,
    RemoteError: PoolError,
    StaleVersionError: ExecutionError,
    LeaseError: ExecutionError,
    StoreError: ExecutionError,
    NotSupportedError: DspexError,
}


def test_tree_is_complete():
    """Every exception of the module is in the tree, under the parent that the module's picture shows."""
    found = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}
    assert {each: each.__bases__[0] for each in found} == PARENTS


def test_only_passing_troubles_are_retryable():
    """What a provider or a pool may get over by itself is worth another try, and nothing else."""
    assert {each for each in PARENTS if each.retryable} == {
        RateLimitedError,
        UnavailableError,
        TimedOutError,
        CircuitOpenError,
        BadResponseError,
        UnreadableAnswerError,
        OverloadedError,
        PoolSaturatedError,
        WorkerBusyError,
    }
    assert all(each.retryable for each in PARENTS if each.severity == "warning")
    assert {each for each in PARENTS if each.severity == "critical"} == {AuthenticationError, BillingError}


def test_what_may_have_been_billed_is_known():
    """An answer that was late or unreadable may have been paid for; whoever raises it may know better."""
    assert {each for each in PARENTS if getattr(each, "possibly_billed", False)} == {
        TimedOutError,
        BadResponseError,
        UnreadableAnswerError,
    }
    error = UnavailableError("cut off", provider="openai/x", possibly_billed=True)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert (copy.possibly_billed, copy.provider) == (True, "openai/x")


@pytest.mark.parametrize("kind", PARENTS, ids=lambda kind: kind.__name__)
def test_message_and_hint(kind):
    """An error shows its message and then, on a line of its own, the next step."""
    assert str(kind("it broke")) == "it broke"
    error = kind("it broke", hint="mend it")
    assert (error.message, error.hint, str(error)) == ("it broke", "mend it", "it broke\n  → mend it")


@pytest.mark.parametrize("kind", PARENTS, ids=lambda kind: kind.__name__)
def test_survives_pickling(kind):
    """An error that crosses a process border keeps its class, message, hint and notes."""
    error = kind("it broke", hint="mend it")
    error.add_note("on Tuesday")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(copy) is kind
    assert (str(copy), copy.message, copy.hint, copy.args) == (
        str(error),
        "it broke",
        "mend it",
        ("it broke",),
    )
    assert copy.__notes__ == ["on Tuesday"]


def test_rate_limit_keeps_its_wait_when_pickled():
    """How long to wait is not lost on the way between processes."""
    error = RateLimitedError("slow down", retry_after_s=2.5, hint="wait")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert (copy.retry_after_s, copy.hint) == (2.5, "wait")


def test_rendered_without_a_stack():
    """IPython is given the name and the message only."""
    assert DataError("no examples", hint="pass some")._render_traceback_() == [
        "\x1b[31mDataError\x1b[0m: no examples\n  → pass some"
    ]


def test_unknown_name_is_a_key_error():
    """A mapping that raises it keeps Python's contract, and the message is not quoted as KeyError's would be."""
    error = UnknownNameError.among("pool", "inlin", ["dask", "inline"])
    assert isinstance(error, KeyError)
    assert str(error) == "unknown pool 'inlin'; known: dask, inline\n  → did you mean 'inline'?"


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (["dask"], "unknown pool 'zzz'; known: dask\n  → use one of the pools listed above"),
        (["b", "a"], "unknown pool 'zzz'; known: a, b\n  → use one of the pools listed above"),
    ],
)
def test_unknown_name_lists_what_there_is(known, expected):
    """With nothing near, the known names are listed in order."""
    assert str(UnknownNameError.among("pool", "zzz", known)) == expected


def test_unknown_name_among_nothing_points_at_no_list():
    """Where nothing is known, the hint does not send the reader to an empty list."""
    assert "listed above" not in str(UnknownNameError.among("study", "x", []))


def test_caret_stands_under_the_place():
    """Only the line of a longer spec that holds the place is shown."""
    error = SignatureError.at("a: str\n-> b: strin", 13, "unknown type")
    assert str(error) == "unknown type\n  -> b: strin\n        ^"


def test_all_failures_are_listed():
    """Failures come together, one a line."""
    assert (
        str(VariableError.of_all("bad:", ["a is 1", "b is 2"], hint="mend"))
        == "bad:\n  - a is 1\n  - b is 2\n  → mend"
    )


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("becon", ["beacon", "random"], "did you mean 'beacon'?"),
        ("CHAINOFTHOUGHT", ["ChainOfThought", "Predict"], "did you mean 'ChainOfThought'?"),
        ("qqq", ["beacon", "random"], None),
        ("", ["beacon"], None),
        ("beacon", [], None),
    ],
)
def test_did_you_mean(name, known, expected):
    """The nearest name is offered, whatever its case, and none when none is near."""
    assert did_you_mean(name, known) == expected


def test_failures_survive_pickling():
    """A ValuesError keeps its failures across a process border."""
    error = ValuesError.of_all("No:", [Failure("[0]", "int", "'x' (str)", "count it")])
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert str(arrived) == "No:\n  - [0]: expected int, got 'x' (str); count it"
    assert arrived.failures == error.failures
