"""What tokens cost: declared prices first, then the price table that ships with LiteLLM.

The table is read from the installed package's data file. LiteLLM itself is never imported (it costs
seconds) and nothing is fetched.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex.records import ModelInfo, Price
from dspex.redact import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Callable

_log = quiet_logger("dspex.prices")
_declared: dict[str, Price] = {}
_looked_up: dict[str, Price | None] = {}
"""What the table said; None for what it does not know."""
_tellers: dict[str, Callable[[str], Price | None]] = {}
_LOCAL_PROVIDERS = ("ollama/", "ollama_chat/", "local/", "llamafile/")
_FREE = Price(0.0, 0.0)


def declare(model: str, price: Price) -> None:
    """Say what a model costs; this wins over the table."""
    _declared[model] = price


def tell(prefix: str, teller: Callable[[str], Price | None]) -> None:
    """Have a provider's prices asked of somebody who knows them, before the first of its models is made."""
    _tellers[prefix] = teller


def declared() -> dict[str, Price]:
    """Return the prices that were asked for or declared so far, to declare them in another process."""
    return {name: price or _FREE for name, price in _looked_up.items()} | _declared


def price_of(model: str) -> Price:
    """Look up a model's price. One that nobody knows counts as free, and the log says so once."""
    known = _declared.get(model)
    if known is not None:
        return known
    is_new = model not in _looked_up
    price = _known(model)
    if price is None and is_new:
        _log.warning("no price is known for %s: its calls count as free (dspex.configure(prices=...))", model)
    return _FREE if price is None else price


def info_of(model: str) -> ModelInfo:
    """Look up what is known of a model: declared prices, and the table's window and capabilities."""
    row = _row(model)
    return ModelInfo(
        price=_declared.get(model) or _from_table(model),
        context_tokens=row.get("max_input_tokens") or row.get("max_tokens"),
        capabilities=frozenset(
            name.removeprefix("supports_")
            for name, value in row.items()
            if name.startswith("supports_") and value is True
        ),
    )


def _known(model: str) -> Price | None:
    """Look a price up once: it is asked for at every call."""
    if model not in _looked_up:
        _looked_up[model] = _from_table(model)
    return _looked_up[model]


def _from_table(model: str) -> Price | None:
    if model.startswith(_LOCAL_PROVIDERS):
        return _FREE
    for prefix, teller in _tellers.items():
        if model.startswith(prefix):
            return teller(model)
    row = _row(model)
    if "input_cost_per_token" in row:
        return Price(row["input_cost_per_token"] * 1e6, row.get("output_cost_per_token", 0.0) * 1e6)
    return None


def _row(model: str) -> dict[str, Any]:
    """Return the table's row of a model, with its provider's name before it or without; {} if there is none."""
    rows = (_table().get(name) for name in (model, model.partition("/")[2]))
    found = [row for row in rows if row is not None]
    return next((row for row in found if "input_cost_per_token" in row), found[0] if found else {})


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    path = Path(spec.origin).parent / "model_prices_and_context_window_backup.json"
    if not path.is_file():
        return {}
    table: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return table
