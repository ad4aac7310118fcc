"""The compiled adapters and DSPy's own, side by side: same messages, same values, same exceptions."""

from __future__ import annotations

import decimal
import json
import logging
import os
import random
import warnings
from pathlib import Path
from typing import Any

import adapter_cases as cases
import dspy
import pytest

from dspex.adapters import ChatAdapter, JSONAdapter, XMLAdapter

PAIRS = [(dspy.ChatAdapter, ChatAdapter), (dspy.JSONAdapter, JSONAdapter), (dspy.XMLAdapter, XMLAdapter)]
CASES = int(os.environ.get("DSPEX_IDENTITY_CASES", "3000"))
SEED = int(os.environ.get("DSPEX_IDENTITY_SEED", "20240131"))
CORPUS = json.loads(Path(__file__).with_name("corpus.json").read_text())


def outcome(call, *args) -> tuple[Any, ...]:
    """Return what a call gave: its value, or its exception as type and text."""
    try:
        return ("value", call(*args))
    except Exception as error:
        try:
            said = str(error)
        except Exception:
            said = "?"
        return ("error", type(error), said)


def same(ours: Any, theirs: Any) -> bool:
    """Whether two results are equal in value, type and order, all the way down; nan is itself."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(theirs, float | complex | decimal.Decimal):
        return repr(ours) == repr(theirs)
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if hasattr(theirs, "model_fields_set"):
        return same((ours.__dict__, ours.model_fields_set), (theirs.__dict__, theirs.model_fields_set))
    return isinstance(theirs, cases.Odd | cases.Broken) or bool(ours == theirs)


def check(seed: int) -> None:
    """Compare one random signature under all three adapters."""
    rng = random.Random(seed)
    made = cases.signature(rng)
    inputs, demos = cases.inputs(rng, made), cases.demos(rng, made)
    for stock_class, our_class in PAIRS:
        native = rng.random() < 0.3
        stock, ours = (
            stock_class(use_native_function_calling=native),
            our_class(use_native_function_calling=native),
        )
        told = f"DSPEX case {seed} {stock_class.__name__}"
        theirs = outcome(stock.format, made, demos, inputs)
        for again in range(3):  # the third time demos are remembered
            found = outcome(ours.format, made, demos, inputs)
            assert same(found, theirs), f"{told}: format, time {again}\n{found}\n{theirs}"
        for _ in range(3):
            text = cases.completion(rng, made, stock)
            theirs = outcome(stock.parse, made, text)
            found = outcome(ours.parse, made, text)
            assert same(found, theirs), f"{told}: parse {text!r}\n{found}\n{theirs}"
        if demos:
            mutate(rng, demos)
            theirs = outcome(stock.format, made, demos, inputs)
            found = outcome(ours.format, made, demos, inputs)
            assert same(found, theirs), f"{told}: changed demos\n{found}\n{theirs}"


def mutate(rng: random.Random, demos: list[Any]) -> None:
    """Change something within a demo."""
    demo = rng.choice(demos)
    names = list(demo.keys())
    if not names:
        return
    name = rng.choice(names)
    value = demo[name]
    if isinstance(value, list) and rng.random() < 0.7:
        value.append(cases.text(rng))
    elif isinstance(value, cases.Point):
        value.x += 1
    elif isinstance(value, bool | int | float) and rng.random() < 0.5:
        demo[name] = rng.choice(
            [float(value) if abs(value) < 1e9 else 1.0, bool(value), str(value) if abs(value) < 1e9 else "1"]
        )
    else:
        demo[name] = cases.anything(rng)


@pytest.fixture(autouse=True)
def quiet():
    """Neither the logs nor the warnings of odd values are what is compared."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", CORPUS)
def test_what_once_differed_stays_the_same(seed):
    """Every case that ever failed is replayed first."""
    check(seed)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(4))
def test_random_signatures_values_and_completions(part):
    """Random signatures, values, demos and completions give what DSPy gives, to the byte."""
    for k in range(part, CASES, 4):
        check(SEED * 1_000_003 + k)
