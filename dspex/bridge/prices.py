"""What tokens cost: declared prices first, then the price table that ships with LiteLLM.

The table is read from the installed package's data file. LiteLLM itself is never imported (it costs
seconds) and nothing is fetched.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

from dspex.records import Price

_log = logging.getLogger("dspex.prices")
_declared: dict[str, Price] = {}
_LOCAL_PROVIDERS = ("ollama/", "ollama_chat/", "local/", "llamafile/")


def declare(model: str, price: Price) -> None:
    """Say what a model costs; this wins over the table."""
    _declared[model] = price


def price_of(model: str) -> Price:
    """Look up a model's price. One that nobody knows counts as free, and the log says so once."""
    known = _declared.get(model)
    if known is not None:
        return known
    price = _from_table(model)
    _declared[model] = price
    return price


def _from_table(model: str) -> Price:
    if model.startswith(_LOCAL_PROVIDERS):
        return Price(0.0, 0.0)
    table = _table()
    for name in (model, model.partition("/")[2]):
        row = table.get(name)
        if row is not None and "input_cost_per_token" in row:
            return Price(row["input_cost_per_token"] * 1e6, row.get("output_cost_per_token", 0.0) * 1e6)
    _log.warning("no price is known for %s: its calls count as free (dspex.configure(prices=...))", model)
    return Price(0.0, 0.0)


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
