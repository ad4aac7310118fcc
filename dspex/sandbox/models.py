"""Simulated language models: pure functions of a seed and a prompt, with a known truth."""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from dspex.bridge import prices
from dspex.records import Completion, Price, Prompt, Usage
from dspex.sandbox import measuring, plain
from dspex.sandbox.chance import fingerprint, gauss, mixed, uniform
from dspex.sandbox.families import FAMILIES, recognise
from dspex.sandbox.faults import Faults
from dspex.sandbox.prompts import OutputField, Reading, read
from dspex.sandbox.reflection import reflect, reflect_plainly
from dspex.sandbox.surface import (
    Traits,
    chance_of_malformed,
    chance_of_right,
    chance_of_success,
    chances_of_needs,
    coverage_of,
    slip_rate,
    stated_in,
)
from dspex.sandbox.world import PREFIX, short_name, world
from dspex.sandbox.writing import (
    UNKNOWN,
    answer_field,
    end_of_values,
    from_schema,
    generic,
    malformed,
    values_for,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.sandbox.items import Answer, Item

_CHARS_PER_TOKEN = 4
_NOT_SUPPLIED = "Not supplied"  # what DSPy writes for a field that a demonstration lacks
_SHORT_ANSWER = 0.6  # of the typical latency goes by before the first token


class SimulatedModel:
    """A simulated language model that answers DSPy's prompts; nothing in it is learned from text.

    It reads which fields, instructions and demonstrations a prompt holds, recognises which sandbox task
    the inputs belong to, and is right with exactly the chance that the response surface gives. A wrong
    answer is what one gets without one of the skills that the item needs. The same request always gives
    the same answer.

    Parameters
    ----------
    name
        "small", "medium" or "large", with or without "sandbox/".
    seed
        Another seed is another model with the same chances.
    resample
        Whether a request that is repeated at a temperature above 0 draws anew each time. Within a study
        another `rollout_id` draws anew without it, as SIMBA needs.
    real_latency
        Whether to sleep for the simulated latency.
    faults
        What shall go wrong.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int = 0,
        resample: bool = False,
        real_latency: bool = False,
        faults: Faults | None = None,
    ) -> None:
        self.name = short_name(name)
        self.seed = seed
        self.resample = resample
        self.real_latency = real_latency
        self.faults = faults
        self._constants = world().models[self.name]
        self._calls = itertools.count()
        self._occurrences: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"simulated model {PREFIX}{self.name} (seed {self.seed}, {world().version})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_state, (self.state(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulatedModel:
        # Programs are copied freely; what they call stays one model that counts its calls.
        return self

    def state(self) -> dict[str, Any]:
        """Describe oneself as JSON."""
        return {
            "name": self.name,
            "seed": self.seed,
            "resample": self.resample,
            "real_latency": self.real_latency,
            "faults": None if self.faults is None else self.faults.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SimulatedModel:
        """Undo `state`."""
        faults = state["faults"]
        return cls(**{**state, "faults": None if faults is None else Faults.from_state(faults)})

    def answer(self, prompt: Prompt) -> Completion:
        """Answer a prompt, or raise what `faults` say.

        Raises
        ------
        RateLimitedError, UnavailableError
            As `faults` say; never while the truth is measured.
        """
        measurement, call = measuring.current(), next(self._calls)
        slowdown = 1.0
        if self.faults is not None and measurement is None:
            self.faults.check(model=PREFIX + self.name, seed=self.seed, call=call)
            slowdown = self.faults.slowdown(seed=self.seed, call=call)
        luck = self._luck(prompt)
        reading = read(prompt.system, prompt.messages)
        text, chance = self._respond(reading, prompt, luck, is_measured=measurement is not None)
        kept, end = text, end_of_values(reading.wire, text) if chance is not None else 0
        if prompt.max_tokens is not None:
            kept = text[: prompt.max_tokens * _CHARS_PER_TOKEN]
        if measurement is not None and chance is not None:
            # An answer that max_tokens cuts off is wrong whatever it would have said.
            measurement.chances.append(chance if len(kept) >= end else 0.0)
        usage = self._usage(prompt, kept, luck, slowdown)
        if self.real_latency and measurement is None:
            time.sleep(usage.latency_s)
        return Completion(kept, usage, "stop" if len(kept) == len(text) else "length")

    # ── what it says ────────────────────────────────────────────────────────────────────────────

    def _respond(
        self, reading: Reading, prompt: Prompt, luck: str, *, is_measured: bool
    ) -> tuple[str, float | None]:
        """Write the answer, and say how likely it was to succeed; None for what is no sandbox task."""
        if reading.wire == "plain":
            return self._respond_plainly(reading, prompt, luck, is_measured=is_measured)
        reflected = reflect(reading, self._constants, lambda name: uniform(luck, name))
        item = None if reflected is not None else recognise(reading.inputs)
        place = None if item is None else _place(reading, item)
        if item is None or place is None:
            values = {output.name: generic(output, luck) for output in reading.outputs}
            return written(reading.wire, values | (reflected or {})), None
        traits = self._traits(reading, item, prompt.temperature)
        answer, thought = self._attempt(traits, item, luck, is_measured=is_measured)
        values = values_for(
            reading.outputs,
            place,
            answer,
            thought=thought,
            chance=chance_of_right(self.name, traits, item),
            luck=luck,
        )
        unreadable = chance_of_malformed(self.name, reading.wire, traits.temperature)
        if not is_measured and uniform(self.name, luck, "format") < unreadable:
            return malformed(reading.wire, reading.outputs, values, luck), None
        return written(reading.wire, values), chance_of_success(self.name, traits, item)

    def _respond_plainly(
        self, reading: Reading, prompt: Prompt, luck: str, *, is_measured: bool
    ) -> tuple[str, float | None]:
        proposal = reflect_plainly(reading.inputs["text"], self._constants, lambda name: uniform(luck, name))
        item = plain.item_in(prompt) if proposal is None else None
        schema, is_held = plain.schema_in(prompt)
        if item is None:
            smallest = None if proposal or not schema else from_schema({"type": "object", **schema})
            return proposal or (json.dumps(smallest) if smallest is not None else UNKNOWN), None
        stated, statements = stated_in(reading.instructions, item.family)
        traits = Traits(
            self._temperature(prompt.temperature), plain.reasons(schema), stated, statements, wire="plain"
        )
        answer, thought = self._attempt(traits, item, luck, is_measured=is_measured)
        chance = chance_of_success(self.name, traits, item)
        if not schema:
            return str(answer), chance
        unreadable = 0.0 if is_held else chance_of_malformed(self.name, "json", traits.temperature)
        if not is_measured and uniform(self.name, luck, "format") < unreadable:
            return f"Sure, here is what I think: {answer}.", None
        preferred = FAMILIES[item.family].output
        right = chance_of_right(self.name, traits, item)
        text = plain.written_object(schema, preferred, answer, thought=thought, chance=right)
        # An object without a place for the answer is filled as well as it can be.
        return (
            (text, chance * (1 - unreadable)) if text is not None else (json.dumps(from_schema(schema)), None)
        )

    def _traits(self, reading: Reading, item: Item, temperature: float | None) -> Traits:
        stated, statements = stated_in(reading.instructions, item.family)
        shown = []
        for inputs, outputs in reading.demos:
            demo = recognise(inputs) if inputs and outputs else None
            place = None if demo is None else _place(reading, demo)
            answer = None if place is None else outputs.get(place.name)
            if demo is not None and answer and not answer.startswith(_NOT_SUPPLIED):
                shown.append((demo, _same(answer, demo.answer)))
        return Traits(
            self._temperature(temperature),
            reading.reasons,
            stated,
            statements,
            coverage_of(shown, item.family),
            reading.wire,
        )

    def _attempt(self, traits: Traits, item: Item, luck: str, *, is_measured: bool) -> tuple[Answer, str]:
        """Draw whether each needed skill holds; say the answer, and the thoughts on the way to it."""
        if is_measured:
            return item.answer, self._thought(item, None)
        share = world().drift_cold + (world().drift_hot - world().drift_cold) * min(traits.temperature, 1.0)
        for index, (need, chance) in enumerate(
            zip(item.needs, chances_of_needs(self.name, traits, item), strict=True)
        ):
            key = (self.seed, self.name, index, need.skill)
            if mixed(gauss(*key, item.key), gauss(*key, luck), share) >= chance:
                return need.slip, self._thought(item, index)
        if uniform(self.seed, self.name, luck, "slip") < slip_rate(
            self.name, traits.temperature, traits.reasoning
        ):
            index = int(uniform(luck, "slipped") * len(item.needs))
            return item.needs[index].slip, self._thought(item, index)
        return item.answer, self._thought(item, None)

    @staticmethod
    def _thought(item: Item, missing: int | None) -> str:
        reasons = [need.reason for index, need in enumerate(item.needs) if index != missing]
        return " ".join(["Let me look at it step by step.", *reasons, "So the answer follows."])

    # ── what it takes ───────────────────────────────────────────────────────────────────────────

    def _luck(self, prompt: Prompt) -> str:
        """Name this request's luck; a repeated one has new luck only if it resamples."""
        luck = fingerprint(
            self.seed,
            self.name,
            prompt.system,
            *itertools.chain(*prompt.messages),
            prompt.temperature,
            prompt.max_tokens,
        )
        if prompt.rollout and self._temperature(prompt.temperature) > 0:
            luck = fingerprint(luck, prompt.rollout)
        if not self.resample or self._temperature(prompt.temperature) <= 0 or measuring.current() is not None:
            return luck
        with self._lock:
            occurrence = self._occurrences[luck]
            self._occurrences[luck] += 1
        return f"{luck} {occurrence}" if occurrence else luck

    def _usage(self, prompt: Prompt, text: str, luck: str, slowdown: float) -> Usage:
        chars_in = len(prompt.system) + sum(len(message) for _, message in prompt.messages)
        tokens_in, tokens_out = _tokens(chars_in), _tokens(len(text))
        length = _SHORT_ANSWER + (1 - _SHORT_ANSWER) * tokens_out / world().tokens_per_answer
        noise = math.exp(self._constants.latency_sigma * gauss(luck, "latency"))
        return Usage(
            1,
            tokens_in,
            tokens_out,
            price(self.name).cost_usd(tokens_in, tokens_out),
            self._constants.typical_latency_s * length * noise * slowdown,
        )

    @staticmethod
    def _temperature(temperature: float | None) -> float:
        return world().default_temperature if temperature is None else temperature


def _place(reading: Reading, item: Item) -> OutputField | None:
    return answer_field(reading.outputs, FAMILIES[item.family].output, item.answer)


def _same(text: str, answer: Answer) -> bool:
    """Compare what a demonstration says; 12.0 is 12."""
    return text.strip() in (str(answer), f"{answer}.0")


def _tokens(chars: int) -> int:
    return -(-chars // _CHARS_PER_TOKEN)


def lm(
    name: str,
    *,
    seed: int = 0,
    resample: bool = False,
    real_latency: bool = False,
    faults: Faults | None = None,
    **settings: Any,
) -> Any:
    """Make a `dspy.LM` that asks a simulated model. `SimulatedModel` explains the options.

    Parameters
    ----------
    **settings
        Anything else that `dspy.LM` takes, such as `temperature` or `num_retries`.

    Returns
    -------
    A `dspy.LM`.

    Raises
    ------
    UnknownNameError
        If there is no such simulated model.
    """
    # bridge imports DSPy, and `import dspex.sandbox` must stay light.
    from dspex.bridge.lm import from_answerer

    model = SimulatedModel(name, seed=seed, resample=resample, real_latency=real_latency, faults=faults)
    return from_answerer(PREFIX + model.name, model, price(name), **settings)


def price(name: str) -> Price:
    """Say what a simulated model pretends to cost."""
    constants = world().models[short_name(name)]
    return Price(constants.input_usd, constants.output_usd)


def typical_latency_s(name: str) -> float:
    """Say how many seconds a simulated model pretends to take for a usual answer, in the median."""
    return world().models[short_name(name)].typical_latency_s


def _price_if_known(name: str) -> Price | None:
    known = name.removeprefix(PREFIX) in world().models
    return price(name) if known else None


# A space may name a simulated model long before the first one is made.
prices.tell(PREFIX, _price_if_known)
