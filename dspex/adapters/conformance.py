"""What every adapter keeps to, as tests that anyone's adapter can inherit.

Write a class whose name begins with ``Test``, say how to make the adapter, and pytest does the rest::

    from dspex.adapters.conformance import AdapterConformance


    class TestMine(AdapterConformance):
        def make(self):
            return MyAdapter("a-model")

        def make_failing(self):
            return MyAdapter("a-model", api_base="http://127.0.0.1:1")
"""

from __future__ import annotations

import asyncio
import gc
import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from dspex.adapters.base import Answer, Chunk
from dspex.errors import DefinitionError, ExecutionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from dspex.adapters.base import Adapter
    from dspex.native.signature import Signature

QUESTION = "Julia has 220 buttons. On Wednesday 45 more are found. How many buttons are there now?"
_MANY = 8


class AdapterConformance:
    """The suite. `make` is all that must be written; what a model says is not judged, only its form.

    Attributes
    ----------
    question
        Something the model can answer with a whole number.
    """

    question = QUESTION

    def make(self) -> Adapter:
        """Make the adapter, as a user would."""
        raise NotImplementedError("say how the adapter is made")

    def make_failing(self) -> Adapter | None:
        """Make one whose provider cannot be reached, or always fails; None if it has no provider."""
        return None

    # ── what is asked ───────────────────────────────────────────────────────────────────────────

    def plain(self) -> Signature:
        """Return a task with one output of text."""
        return _signature("question -> answer")

    def typed(self) -> Signature:
        """Return a task with one output that is a number."""
        return _signature("question -> answer: int")

    def several(self) -> Signature:
        """Return a task with outputs of several types, one of them within bounds."""
        return _signature("question -> answer: int, confidence: probability")

    # ── threads ─────────────────────────────────────────────────────────────────────────────────

    def test_generate_fills_every_output(self) -> None:
        """An answer has every output in its type, what the model wrote, and what it took."""
        with self.make() as adapter:
            for task in (self.plain(), self.typed(), self.several()):
                self._check(adapter, task, adapter.generate(task, question=self.question))

    def test_inputs_come_as_a_mapping_too(self) -> None:
        """A field may be called like anything: a mapping holds it."""
        with self.make() as adapter:
            self._check(adapter, self.typed(), adapter.generate(self.typed(), {"question": self.question}))

    def test_a_plain_prompt_is_a_task(self) -> None:
        """A text alone is answered with text, where the adapter takes one, and refused clearly where not."""
        with self.make() as adapter:
            if not adapter.capabilities.plain_prompts:
                _raises(DefinitionError, lambda: adapter.generate(self.question))
                return
            answer = adapter.generate(self.question)
            assert isinstance(answer["text"], str), answer

    def test_pieces_add_up(self) -> None:
        """The texts of a stream are what the model wrote; the last chunk alone brings the answer."""
        with self.make() as adapter:
            chunks = list(adapter.stream(self.typed(), question=self.question))
            self._check_chunks(adapter, chunks)

    def test_structured_answers_fit(self) -> None:
        """A structured answer has every output, in its type and within its bounds."""
        with self.make() as adapter:
            answer = adapter.structured(self.several(), question=self.question)
            self._check(adapter, self.several(), answer)
            assert 0 <= answer["confidence"] <= 1, answer

    def test_batches_keep_their_order(self) -> None:
        """A batch brings an answer for each input, in their order, and nothing for none."""
        with self.make() as adapter:
            many = [{"question": self.question} for _ in range(_MANY)]
            answers = adapter.batch(self.typed(), many)
            assert len(answers) == _MANY
            for answer in answers:
                assert isinstance(answer, Answer), answer
                self._check(adapter, self.typed(), answer)
            assert adapter.batch(self.typed(), []) == []

    def test_threads_may_share_it(self) -> None:
        """Many threads may use one adapter at once."""
        with self.make() as adapter, ThreadPoolExecutor(_MANY) as threads:
            asked = [
                threads.submit(adapter.generate, self.typed(), question=self.question)
                for _ in range(2 * _MANY)
            ]
            for each in asked:
                self._check(adapter, self.typed(), each.result())

    # ── event loops ─────────────────────────────────────────────────────────────────────────────

    def test_everything_can_be_awaited(self) -> None:
        """Each call has a twin for event loops, which brings the same kinds of things."""

        async def asked() -> None:
            async with self.make() as adapter:
                typed, several = self.typed(), self.several()
                self._check(adapter, typed, await adapter.agenerate(typed, question=self.question))
                self._check(adapter, several, await adapter.astructured(several, question=self.question))
                chunks = [chunk async for chunk in adapter.astream(typed, question=self.question)]
                self._check_chunks(adapter, chunks)
                answers = await adapter.abatch(typed, [{"question": self.question}] * _MANY)
                assert all(isinstance(answer, Answer) for answer in answers), answers

        _run(asked())

    def test_the_event_loop_stays_free(self) -> None:
        """While it waits for an answer, the event loop does other things."""

        async def asked() -> int:
            turns, done = 0, asyncio.Event()

            async def count() -> None:
                nonlocal turns
                while not done.is_set():
                    turns += 1
                    await asyncio.sleep(0)

            async with self.make() as adapter:
                counting = asyncio.ensure_future(count())
                await adapter.agenerate(self.typed(), question=self.question)
                done.set()
                await counting
            return turns

        assert _run(asked()) > 1

    def test_each_event_loop_may_use_it(self) -> None:
        """One adapter serves one event loop after another."""
        adapter = self.make()

        async def asked() -> None:
            self._check(adapter, self.typed(), await adapter.agenerate(self.typed(), question=self.question))
            await adapter.aclose()

        _run(asked())
        _run(asked())

    # ── what goes wrong ─────────────────────────────────────────────────────────────────────────

    def test_wrong_inputs_are_said_before_anything_is_asked(self) -> None:
        """Inputs that are missing or not known are the user's error."""
        with self.make() as adapter:
            _raises(DefinitionError, lambda: adapter.generate(self.plain()))
            _raises(
                DefinitionError, lambda: adapter.generate(self.plain(), question=self.question, nobody="x")
            )
            _raises(DefinitionError, lambda: adapter.batch(self.plain(), [{"nobody": "x"}]))

    def test_a_provider_that_fails_raises_one_of_ours(self) -> None:
        """A failure is an `ExecutionError` with a hint, whichever call it meets; in a batch, in its place."""
        adapter = self.make_failing()
        if adapter is None:
            return
        task, given = self.plain(), {"question": self.question}
        with adapter:
            error = _raises(ExecutionError, lambda: adapter.generate(task, given))
            assert getattr(error, "hint", None), "an error says what to do next"
            _raises(ExecutionError, lambda: list(adapter.stream(task, given)))
            _raises(ExecutionError, lambda: adapter.structured(task, given))
            assert all(isinstance(each, ExecutionError) for each in adapter.batch(task, [given] * 3))

        async def asked() -> None:
            async with adapter:
                each = await adapter.abatch(task, [given] * 3)
                assert all(isinstance(one, ExecutionError) for one in each), each

        _run(asked())

    # ── the parts ───────────────────────────────────────────────────────────────────────────────

    def _check(self, adapter: Adapter, task: Signature, answer: Answer) -> None:
        assert set(task.outputs) <= set(answer.output), answer
        task.validate_outputs({name: answer[name] for name in task.outputs})
        assert answer.adapter == adapter.name
        assert answer.model == adapter.model
        assert answer.text, "what the model wrote is kept"
        assert answer.usage.calls >= 1
        assert answer.usage.latency_s >= 0

    def _check_chunks(self, adapter: Adapter, chunks: list[Chunk]) -> None:
        assert [chunk.answer is not None for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
        answer = chunks[-1].answer
        assert answer is not None
        self._check(adapter, self.typed(), answer)
        assert "".join(chunk.text for chunk in chunks) == answer.text


def _signature(spec: str) -> Signature:
    # The suite uses the library from outside, as the tests that inherit it do.
    made: Signature = importlib.import_module("dspex").signature(spec)
    return made


def _raises(kind: type[Exception], call: Callable[[], Any]) -> Exception:
    try:
        made = call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {made!r}")


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    done = asyncio.run(work)
    gc.collect()  # a connection that was left open is said now, not in another test
    return done
