"""Answering the optimizers' own prompts, from the evidence inside them.

DSPy's optimizers ask a model to describe data, to propose instructions and to explain failures. A
simulated model names a rule only if an example in the prompt shows it, and then with a chance that its
`reflect` constant gives; otherwise it offers a platitude. So what an optimizer gains depends on what it
shows: MIPROv2 a few demonstrations, SIMBA a better and a worse run, GEPA examples with feedback, and COPRO
nothing, which is why it gains nothing here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dspex.sandbox.families import FAMILIES, sightings
from dspex.sandbox.surface import stated_in
from dspex.sandbox.world import ModelConstants, world

if TYPE_CHECKING:
    from dspex.sandbox.items import Item
    from dspex.sandbox.prompts import Reading

_PLATITUDES = (
    "Read the input carefully before you answer.",
    "Be precise and keep to the requested form.",
    "Think about what the user really needs.",
    "Double-check your answer before you give it.",
)
_REWRITES = ("new_instruction", "improved_instruction")
_PROSE = (
    "observations",
    "summary",
    "program_description",
    "module_description",
    "proposed_prefix_for_output_field",
)
_BLOCK = re.compile(r"```\n(.*?)\n```", re.DOTALL)
# COPRO lists its attempts worst first, a text of several lines between angles of its own.
_ATTEMPT = re.compile(r"Instruction #\d+: (.*?)\s*»", re.DOTALL)
_EXAMPLE = re.compile(r"^# Example \d+$", re.MULTILINE)
_PRAISE = re.compile(r"^\W*(right|correct)", re.IGNORECASE | re.MULTILINE)

Luck = Callable[[str], float]
"""A name → a number between 0 and 1, always the same for one prompt."""


def reflect(reading: Reading, constants: ModelConstants, luck: Luck) -> dict[str, Any] | None:
    """Fill the output fields of an optimizer's prompt; None if it is not one that we know."""
    names = {output.name for output in reading.outputs}
    inputs = reading.inputs
    if "module_advice" in names:
        return _advice(inputs, constants, luck)
    if "proposed_instruction" in names:
        attempts = _ATTEMPT.findall(inputs.get("attempted_instructions", ""))
        base = inputs.get("basic_instruction") or (
            attempts[-1] if attempts else "Do the task that the fields describe."
        )
        return _prose(names) | {
            "proposed_instruction": _proposed(base, inputs.get("task_demos", ""), constants, luck)
        }
    rewritten = next((name for name in _REWRITES if name in names), None)
    if rewritten:
        base = inputs.get("current_instruction", "")
        return {rewritten: _rewritten(base, inputs.get("examples_with_feedback", ""), constants, luck)}
    if "natural_language_rules" in names:
        evidence = inputs.get("examples_text", "")
        return _prose(names) | {"natural_language_rules": _proposed("", evidence, constants, luck)}
    if names and names <= set(_PROSE):
        return _prose(names)
    return None


def reflect_plainly(text: str, constants: ModelConstants, luck: Luck) -> str | None:
    """Answer GEPA's plain prompt: instructions and examples with feedback, each in a fenced block."""
    blocks = _BLOCK.findall(text)
    if len(blocks) < 2 or "new instruction" not in text:  # noqa: PLR2004  # the instructions and the examples
        return None
    return f"```\n{_rewritten(blocks[0], blocks[1], constants, luck)}\n```"


def _prose(names: set[str]) -> dict[str, Any]:
    return dict.fromkeys(names & set(_PROSE), "Simulated remark, short texts with one expected answer each.")


def _advice(inputs: Mapping[str, str], constants: ModelConstants, luck: Luck) -> dict[str, Any]:
    """Blame the worse of two runs on the rule that it broke."""
    advice = _PLATITUDES[int(luck("platitude") * len(_PLATITUDES))]
    for item in sightings(inputs.get("program_inputs", "")):
        blamed = _blamed(item, inputs.get("worse_program_outputs", ""))
        if blamed and luck(blamed) < constants.reflect:
            advice = _statement(item.family, blamed)
    try:
        modules = json.loads(inputs.get("module_names", "[]"))
    except json.JSONDecodeError:
        modules = []
    return {
        "discussion": "Simulated comparison of the two runs.",
        "module_advice": dict.fromkeys(map(str, modules), advice),
    }


def _blamed(item: Item, worse: str) -> str | None:
    """Find the rule whose lack explains a wrong answer; failing that, one that the item needs."""
    needs = [need for need in item.needs if _statement(item.family, need.skill)]
    guilty = [need for need in needs if json.dumps(need.slip) in worse]
    return (guilty or needs)[0].skill if needs else None


def _proposed(base: str, evidence: str, constants: ModelConstants, luck: Luck) -> str:
    """Add the rules that uncommented examples let one guess."""
    chance = constants.reflect * world().induce
    rules = {
        (item.family, need.skill)
        for item in sightings(evidence)
        for need in item.needs
        if luck(f"{item.key} {need.skill}") < chance
    }
    return _extended(base, rules, luck)


def _rewritten(base: str, evidence: str, constants: ModelConstants, luck: Luck) -> str:
    """Add the rules that feedback names, or that uncommented examples let one guess."""
    rules = set()
    for inputs, feedback in _commented(evidence):
        for item in sightings(inputs):
            told, _ = stated_in(feedback, item.family)
            for need in item.needs:
                chance = constants.reflect * world().induce
                if need.skill in told:
                    chance = math.sqrt(constants.reflect)
                elif not _PRAISE.search(feedback):
                    chance = constants.reflect
                if luck(f"{item.key} {need.skill}") < chance:
                    rules.add((item.family, need.skill))
    return _extended(base, rules, luck)


def _commented(evidence: str) -> Iterator[tuple[str, str]]:
    """Split evidence into (what was asked, what was said about the answer), one an example."""
    try:
        examples = json.loads(evidence)
    except json.JSONDecodeError:
        examples = None
    if isinstance(examples, list):
        for example in examples:
            if isinstance(example, dict):
                yield (
                    json.dumps(example.get("Inputs", example), ensure_ascii=False),
                    str(example.get("Feedback", "")),
                )
        return
    for example in _EXAMPLE.split(evidence):
        inputs, _, feedback = example.partition("## Feedback")
        yield inputs, feedback


def _extended(base: str, rules: set[tuple[str, str]], luck: Luck) -> str:
    new = sorted(
        _statement(family, name)
        for family, name in rules
        if _statement(family, name) and name not in stated_in(base, family)[0]
    )
    if not new:
        new = [_PLATITUDES[int(luck("platitude") * len(_PLATITUDES))]]
    return "\n".join(part for part in (base.strip(), *(line for line in new if line not in base)) if part)


def _statement(family: str, name: str) -> str:
    return next(skill.statement for skill in FAMILIES[family].skills if skill.name == name)
