"""The scripted adapter: answers by rules, fails and dawdles by a seed, and remembers every call. For tests."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Union

from dspex.adapters import forms
from dspex.adapters.base import TEXT, Adapter, Answer, Ask, Capabilities, Chunk, Inputs, unreadable
from dspex.errors import DefinitionError, ExecutionError, UnavailableError
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

When = Union[str, "re.Pattern[str]", Inputs, Callable[[Inputs], bool]]
"""A text that an input must hold, a pattern to be found in one, inputs that must be equal, or a function."""
Then = str | int | float | bool | Inputs | ExecutionError | Callable[[Inputs], Any]
"""The one output or all by name, an error to raise, or a function of the inputs that returns either."""
_CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as the history keeps it."""

    number: int
    task: str
    inputs: Mapping[str, Any]
    output: Mapping[str, Any] | None
    error: str | None
    delay_s: float


class ScriptedAdapter(Adapter):
    """Answers without any model. Made by `dspex.adapters.scripted`; nothing ever chooses it by itself.

    What fails and how long it takes depend on the seed, the inputs and how often they came before, so that
    one seed gives one history, byte by byte, whichever thread comes first.

    Parameters
    ----------
    rules
        Pairs of when and then; the first that fits is taken.
    otherwise
        What is answered if none fits; left out, that is an error.
    failure_rate
        The share of calls that fail, in [0, 1].
    failures
        What they fail with, drawn evenly.
    delay_s, jitter_s
        How long an answer takes, and by how much more at most, in seconds.
    seed
        Of failures and delays.
    piece_chars
        How many characters a chunk of a stream holds.
    sleep
        How to wait; a test may pass what only counts.
    """

    name = "scripted"
    capabilities = Capabilities(streams=True, modules=None)

    def __init__(
        self,
        rules: Mapping[When, Then] | Sequence[tuple[When, Then]] = (),
        *,
        otherwise: Then | None = None,
        failure_rate: float = 0.0,
        failures: Sequence[ExecutionError] = (),
        delay_s: float = 0.0,
        jitter_s: float = 0.0,
        seed: int = 0,
        piece_chars: int = 16,
        model: str = "scripted",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        _check(failure_rate, delay_s, jitter_s, piece_chars)
        self.model = model
        self._rules = list(rules.items() if isinstance(rules, Mapping) else rules)
        self._otherwise, self._seed = otherwise, seed
        self._failure_rate = failure_rate
        self._failures = list(failures) or [
            UnavailableError(
                f"{model} fails, as the script says", provider=model, hint="failure_rate=0 lets it answer"
            )
        ]
        self._delay_s, self._jitter_s, self._piece_chars = delay_s, jitter_s, piece_chars
        self._sleep = sleep
        self._calls: list[Call] = []
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call so far, oldest first."""
        with self._lock:
            return tuple(self._calls)

    def history(self) -> str:
        """Write the calls as JSON, one a line."""
        return "\n".join(json.dumps(asdict(call), default=str, sort_keys=True) for call in self.calls)

    def answer(self, ask: Ask) -> Answer:
        """Answer by the first rule that fits."""
        inputs = ask.inputs if ask.signature is not None else {"prompt": ask.prompt}
        task = "prompt -> text" if ask.signature is None else ask.signature.outline
        luck = self._luck(task, inputs)
        delay_s = self._delay_s + self._jitter_s * luck.random()
        if delay_s > 0:
            self._sleep(delay_s)
        fails, failure = luck.random() < self._failure_rate, luck.choice(self._failures)
        try:
            if fails:
                raise failure
            output, text = self._said(ask, inputs)
        except ExecutionError as error:
            self._note(task, inputs, None, f"{type(error).__name__}: {error.message}", delay_s)
            # The script's error may be raised many times, from many threads: each gets one of its own.
            raise _fresh(error) from None
        self._note(task, inputs, output, None, delay_s)
        asked = len(forms.user_text(ask)) // _CHARS_PER_TOKEN
        usage = Usage(1, asked, len(text) // _CHARS_PER_TOKEN, 0.0, delay_s)
        return Answer(output, text, usage, self.name, self.model, "script")

    def pieces(self, ask: Ask) -> Iterator[Chunk]:
        """Answer in pieces of one size."""
        answer = self.answer(ask)
        for start in range(0, len(answer.text), self._piece_chars):
            yield Chunk(answer.text[start : start + self._piece_chars])
        yield Chunk("", answer)

    # ── the parts ───────────────────────────────────────────────────────────────────────────────

    def _luck(self, task: str, inputs: Inputs) -> Random:
        key = f"{task}|{json.dumps(dict(inputs), default=str, sort_keys=True)}"
        with self._lock:
            occurrence = self._seen[key]
            self._seen[key] += 1
        return Random(f"{self._seed}|{occurrence}|{key}")

    def _said(self, ask: Ask, inputs: Inputs) -> tuple[dict[str, Any], str]:
        then = next((then for when, then in self._rules if _fits(when, inputs)), self._otherwise)
        value = then(inputs) if callable(then) else then
        if isinstance(value, ExecutionError):
            raise value
        if value is None:
            raise ExecutionError(
                f"no rule of the script fits {json.dumps(dict(inputs), default=str)[:200]}",
                hint="add a rule for it, or say otherwise=...",
            )
        outputs = (TEXT,) if ask.signature is None else ask.signature.outputs
        if isinstance(value, Mapping):
            output = _output(ask, value)
            return output, json.dumps(output, default=str, ensure_ascii=False)
        if len(outputs) != 1:
            raise DefinitionError(
                f"the script answers {value!r}, and the task has the outputs {', '.join(outputs)}",
                hint="answer with a mapping of them",
            )
        field = forms.plain_field(ask)
        if field is None or not isinstance(value, str):
            return {outputs[0]: str(value) if ask.signature is None else value}, str(value)
        try:
            return {outputs[0]: forms.read_plain(field, value)}, value
        except ValueError as error:
            raise unreadable(self.model, value, str(error)) from None

    def _note(
        self, task: str, inputs: Inputs, output: Inputs | None, error: str | None, delay_s: float
    ) -> None:
        with self._lock:
            self._calls.append(Call(len(self._calls), task, dict(inputs), output, error, delay_s))


def _output(ask: Ask, given: Inputs) -> dict[str, Any]:
    """Take what the task asks for; where it asks for text, a value is written as text."""
    if ask.signature is None:
        return {TEXT: str(given.get(TEXT, given))}
    wanted = {field.name: field.annotation for field in ask.signature.fields if field.role == "output"}
    return {
        name: str(value) if wanted[name] is str else value for name, value in given.items() if name in wanted
    }


def _fits(when: When, inputs: Inputs) -> bool:
    if isinstance(when, str):
        return any(when.casefold() in str(value).casefold() for value in inputs.values())
    if isinstance(when, re.Pattern):
        return any(when.search(str(value)) is not None for value in inputs.values())
    if isinstance(when, Mapping):
        return all(name in inputs and inputs[name] == value for name, value in when.items())
    return bool(when(inputs))


def _fresh(error: ExecutionError) -> ExecutionError:
    made, arguments, state = error.__reduce__()
    copied = made(*arguments)  # type: ignore[operator,misc]  # as pickle does it
    copied.__dict__.update(state)
    assert isinstance(copied, ExecutionError)
    return copied


def _check(failure_rate: float, delay_s: float, jitter_s: float, piece_chars: int) -> None:
    wrong = []
    if not 0 <= failure_rate <= 1:
        wrong.append(f"failure_rate is a share in [0, 1], got {failure_rate}")
    if not min(delay_s, jitter_s) >= 0:
        wrong.append(f"delay_s and jitter_s must be >= 0, got {delay_s} and {jitter_s}")
    if piece_chars < 1:
        wrong.append(f"piece_chars must be > 0, got {piece_chars}")
    if wrong:
        raise DefinitionError("; ".join(wrong))
