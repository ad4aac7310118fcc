import logging
import subprocess
import sys

import pytest

from dspex import sandbox
from dspex.bridge import prices
from dspex.records import ModelInfo, Price


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})
    monkeypatch.setattr(prices, "_looked_up", {})


def test_a_declared_price_wins():
    """What is declared comes before the table, also after the table was asked."""
    assert prices.price_of("openai/gpt-4o-mini") != Price(1, 2)
    prices.declare("openai/gpt-4o-mini", Price(1, 2))
    assert prices.price_of("openai/gpt-4o-mini") == Price(1, 2)


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("openai/gpt-4o-mini", Price(0.15, 0.6)),  # OpenAI's list price, US dollars per million tokens
        ("gpt-4o-mini", Price(0.15, 0.6)),
        ("ollama_chat/llama3.2", Price(0, 0)),
        ("ollama/anything", Price(0, 0)),
    ],
)
def test_known_prices(model, price, caplog):
    """The table knows models with and without their provider; a local model is free; nothing is logged."""
    found = prices.price_of(model)
    assert (found.input_usd, found.output_usd) == pytest.approx((price.input_usd, price.output_usd))
    assert caplog.records == []


def test_an_unknown_model_is_free_and_logged_once(caplog):
    """A model that nobody knows costs nothing, and one warning says so."""
    with caplog.at_level(logging.WARNING, logger="dspex.prices"):
        assert [prices.price_of("acme/nothing-1") for _ in range(3)] == [Price(0, 0)] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "no price is known for acme/nothing-1: its calls count as free (dspex.configure(prices=...))"
    ]


def test_every_row_of_the_table_can_be_used():
    """No row breaks the look-up, and no price is negative."""
    for model in prices._table():
        if "input_cost_per_token" in prices._table()[model]:
            price = prices._from_table(model)
            assert min(price.input_usd, price.output_usd) >= 0


def test_litellm_is_never_imported():
    """The table is read from its file; importing the package would cost seconds."""
    code = (
        "import sys\nfrom dspex.bridge import prices\n"
        "assert prices.price_of('openai/gpt-4o-mini').input_usd > 0\n"
        "print('litellm' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out == "False\n"


def test_without_litellm_there_is_no_table(monkeypatch):
    """Where LiteLLM is not installed, prices are unknown, not an error."""
    monkeypatch.setattr(prices.importlib.util, "find_spec", lambda name: None)
    assert prices._table.__wrapped__() == {}


def test_what_is_known_of_a_model():
    """Price, window and capabilities come from the table, with a provider's name or without; a declared price wins."""
    found = prices.info_of("openai/gpt-4o-mini")
    assert found.context_tokens == 128_000
    assert {"vision", "function_calling"} <= found.capabilities
    assert (found.price.input_usd, found.price.output_usd) == pytest.approx((0.15, 0.6))
    assert prices.info_of("acme/nothing-2") == ModelInfo()
    assert prices.info_of("ollama_chat/anything").price == Price(0, 0)
    prices.declare("acme/nothing-3", Price(1, 2))
    assert prices.info_of("acme/nothing-3") == ModelInfo(price=Price(1, 2))


def test_what_nobody_knows_stays_unknown_when_its_calls_were_counted():
    """That a call counts as free does not make its model a free one."""
    assert prices.price_of("acme/nothing-4") == Price(0, 0)
    assert prices.info_of("acme/nothing-4") == ModelInfo()
    assert prices.declared() == {"acme/nothing-4": Price(0, 0)}
    prices.declare("acme/nothing-4", Price(1, 2))
    assert (prices.price_of("acme/nothing-4"), prices.declared()["acme/nothing-4"]) == (Price(1, 2),) * 2


def test_the_price_of_a_simulated_model_is_known_before_it_is_made(caplog):
    """A table that asks first gets the figure that the calls are counted at."""
    assert prices.info_of("sandbox/small").price == prices.price_of("sandbox/small") == sandbox.price("small")
    assert prices.info_of("sandbox/giant").price is None
    assert caplog.records == []
