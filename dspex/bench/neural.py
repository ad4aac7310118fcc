"""Nets in worker pools: joined calls, a language model, covariances, and what happens when a device fails.

``dspex bench gpu`` runs all of it on a GPU. The tests run the same on processors, with smaller sizes.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from dspex.bench.timing import print_rows
from dspex.errors import PoisonTaskError, WorkerMemoryError
from dspex.neural.models import LocalModel
from dspex.optimizers.beacon.algebra import Neural, Numpy, Torch
from dspex.pools import PoolSpec, gpus, named
from dspex.records import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspex.optimizers.beacon.algebra import Algebra
    from dspex.pools.pool import Pool

Device = Literal["cpu", "gpu"]
_POOL = "neural_bench"
_PRELOAD = ("torch", "transformers.models.llama.modeling_llama")


class Sizes(NamedTuple):
    """How much is measured."""

    calls: int
    in_flight: int
    width: int
    """Of the language model."""
    layers: int
    tokens: int
    rows: tuple[int, ...]
    """Of the covariances."""


FULL = Sizes(calls=2000, in_flight=64, width=1024, layers=12, tokens=128, rows=(768, 1536, 3072))
SMALL = Sizes(calls=20, in_flight=4, width=32, layers=2, tokens=4, rows=(100,))


def run() -> None:
    """Print the figures of a machine with a GPU, or say that it has none."""
    found = gpus.probe()
    if not found:
        print("this machine has no GPU that can be used: nothing is measured")
        return
    for gpu in found:
        print(f"{gpu.name}: {gpu.free_mib} of {gpu.total_mib} MiB free")
    measure("gpu", FULL)


def measure(device: Device, sizes: Sizes) -> None:
    """Print everything for one kind of device."""
    with _pool(device) as pool:
        print(f"plan: {pool.workers} workers for {pool.spec.device}: {_places(pool)}")
        print_rows(batching(pool, sizes), "us")
        print_rows(_language(sizes), "ms")
        _print_covariances(sizes)
        _print_failures(pool, device)


@contextmanager
def _pool(device: Device) -> Iterator[Pool]:
    spec = PoolSpec(workers=2, memory_mib=4096, gpu_memory_mib=4096, preload=_PRELOAD, device=device)
    yield named.define(_POOL, spec)
    named.close(_POOL)


def _places(pool: Pool) -> str:
    return pool.submit(_place).result()  # type: ignore[no-any-return]  # a future's result is anything


def _place() -> str:
    import torch

    if not torch.cuda.is_available():
        return "processors"
    return f"{torch.cuda.get_device_name(0)} as cuda:0, {os.environ['CUDA_VISIBLE_DEVICES']}"


# ── joined calls ────────────────────────────────────────────────────────────────────────────────


def net() -> Any:
    """Make a net of 3 M parameters, where the worker computes."""
    import torch

    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(768, 2048),
        torch.nn.GELU(),
        torch.nn.Linear(2048, 768),
        torch.nn.Linear(768, 16),
    ]
    return torch.nn.Sequential(*layers).to("cuda" if torch.cuda.is_available() else "cpu").eval()


def forward(model: Any, inputs: list[Any]) -> list[Any]:
    """Run the net on several inputs at once."""
    import torch

    with torch.inference_mode():
        given = torch.from_numpy(np.stack(inputs)).to(next(model.parameters()).device)
        return list(model(given).cpu().numpy())


def batching(pool: Pool, sizes: Sizes) -> dict[str, float]:
    """Measure single calls of a net, joined and not: one after the other, and many at once."""
    session = pool.session("bench net", net)
    batched = pool.batched(forward, max_batch=64, session=session)
    x = np.random.default_rng(0).standard_normal(768, dtype="float32")
    ways: dict[str, Callable[[], Any]] = {
        "each by itself": lambda: pool.submit(forward, [x], session=session),
        "joined": lambda: batched.submit(x),
    }
    alone: dict[str, list[float]] = {name: [] for name in ways}
    many: dict[str, list[float]] = {name: [] for name in ways}
    for submit in ways.values():
        _at_once(submit, 2 * sizes.in_flight, sizes.in_flight)
    for _ in range(max(1, sizes.calls // 10)):
        for name, submit in ways.items():
            alone[name].append(_us(lambda submit=submit: submit().result()))  # type: ignore[misc]  # mypy infers no default's type
    for _ in range(3):
        for name, submit in ways.items():
            many[name].append(_at_once(submit, sizes.calls, sizes.in_flight))
    session.close()
    one = {name: median(found) for name, found in alone.items()}
    all_ = {name: min(found) for name, found in many.items()}
    print(
        f"micro-batching: {all_['each by itself'] / all_['joined']:.1f} x as many calls at {sizes.in_flight} in flight, "
        f"{one['joined'] / one['each by itself']:.2f} x the latency of one"
    )
    return {
        **{f"one call of a net, median: {name}": found for name, found in one.items()},
        **{f"a call among {sizes.in_flight} in flight: {name}": found for name, found in all_.items()},
    }


def _at_once(submit: Callable[[], Any], calls: int, in_flight: int) -> float:
    """Keep so many calls under way; returns microseconds a call."""
    room = threading.Semaphore(in_flight)
    futures = []
    began = time.perf_counter()
    for _ in range(calls):
        room.acquire()
        futures.append(submit())
        futures[-1].add_done_callback(lambda _: room.release())
    for each in futures:
        each.result()
    return 1e6 * (time.perf_counter() - began) / calls


def _us(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return 1e6 * (time.perf_counter() - began)


# ── a language model ────────────────────────────────────────────────────────────────────────────


def _language(sizes: Sizes) -> dict[str, float]:
    """Measure answers of a language model of random weights, one and many at once."""
    with tempfile.TemporaryDirectory() as folder:
        named.get(_POOL).submit(_save, folder, sizes.width, sizes.layers, timeout_s=None).result()
        model = LocalModel(folder, pool=_POOL, max_batch=sizes.in_flight)
        prompt = Prompt("local/bench", "", (("user", "x" * 100),), max_tokens=sizes.tokens)
        model.submit(prompt).result()
        one = _us(lambda: model.submit(prompt).result()) / 1e3
        many = (
            _us(lambda: [each.result() for each in [model.submit(prompt) for _ in range(sizes.in_flight)]])
            / 1e3
        )
        first = _us(lambda: next(model.pieces(prompt))) / 1e3
    made = sizes.tokens * sizes.in_flight
    print(
        f"language model: {1e3 * sizes.tokens / one:.0f} tokens/s alone, {1e3 * made / many:.0f} tokens/s for "
        f"{sizes.in_flight} prompts at once"
    )
    return {
        f"an answer of {sizes.tokens} tokens": one,
        f"{sizes.in_flight} answers at once": many,
        "until the first words of a stream": first,
    }


def _save(folder: str, width: int, layers: int) -> None:
    """Build a Llama that never ends by itself, and a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(BPE(vocab={letter: k for k, letter in enumerate(alphabet)}, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    config = LlamaConfig(
        vocab_size=len(alphabet), hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=max(2, width // 64), eos_token_id=None, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)


# ── covariances ─────────────────────────────────────────────────────────────────────────────────


def _print_covariances(sizes: Sizes) -> None:
    """Measure BEACON's inverse with numpy, with torch here, and with torch in the neural pool."""
    import torch

    rng = np.random.default_rng(0)
    ways: dict[str, Algebra] = {
        "numpy": Numpy(),
        "torch here": Torch(torch),
        "torch in the pool 'neural'": Neural(),
    }
    for n in sizes.rows:
        half = rng.standard_normal((n, n))
        matrix = half @ half.T + n * np.eye(n)
        expected = Numpy().inverse(matrix)[0]
        off = max(float(np.abs(way.inverse(matrix)[0] - expected).max()) for way in ways.values())
        rows = {
            f"inverse of {n} rows: {name}": min(_us(partial(way.inverse, matrix)) for _ in range(3)) / 1e3
            for name, way in ways.items()
        }
        print(f"they differ by {off:.1e}")
        print_rows(rows, "ms")
    named.close("neural")


# ── when a device fails ─────────────────────────────────────────────────────────────────────────


def _print_failures(pool: Pool, device: Device) -> None:
    session = pool.session("bench failures", list)
    before = session.call(_pid)
    try:
        session.call(_take, 8)
    except WorkerMemoryError as error:
        print(f"too much memory: {error.message[:110]}; the worker stayed: {session.call(_pid) == before}")
    if device == "cpu":
        return
    try:
        pool.submit(_break, session=None).result()
    except PoisonTaskError as error:
        print(f"a broken device: {error.message[:110]}; another worker works: {_places(pool)}")


def _pid(_: Any) -> int:
    return os.getpid()


def _take(_: Any, gib: int) -> float:
    """Want more than the worker may hold, however much the device has."""
    import torch

    return float(
        torch.zeros(gib << 30, dtype=torch.uint8, device="cuda" if torch.cuda.is_available() else "cpu")[0]
    )


def _break() -> None:
    """Read past the end on the device, after which its context is of no use."""
    import torch

    torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].sum().item()
