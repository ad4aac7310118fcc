import re
from pathlib import Path

import pytest

from dspex import sandbox
from dspex.errors import UnknownNameError
from dspex.sandbox import chance, world
from dspex.sandbox.families import FAMILIES


def test_world_names_its_version_and_explains_each_constant():
    """The first model and every top-level constant stand beside a comment."""
    text = (Path(world.__file__).parent / "world.toml").read_text(encoding="utf-8")
    explained = text.partition("[models.medium]")[0]
    bare = [line for line in explained.splitlines() if re.match(r"\w+ = ", line) and "#" not in line]
    assert world.world().version == "sandbox-1"
    assert bare == []


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_skill_has_constants_and_states_itself(name):
    """A family's skills are those of the world, and each statement is recognised as its own skill only."""
    from dspex.sandbox.surface import stated_in

    assert {skill.name for skill in FAMILIES[name].skills} == set(world.world().tasks[name].skills)
    for skill in FAMILIES[name].skills:
        if skill.statement:
            assert stated_in(skill.statement, name)[0] == {skill.name}
    assert stated_in(FAMILIES[name].instructions, name)[0] == frozenset()


def test_names_are_short_or_full():
    """Both ways of naming a model mean the same."""
    assert [world.short_name(name) for name in ("small", "sandbox/small")] == ["small", "small"]
    assert sandbox.price("small") == sandbox.price("sandbox/small")
    with pytest.raises(UnknownNameError):
        sandbox.typical_latency_s("huge")


def test_mixed_luck_is_uniform_and_correlated():
    """The copula keeps each draw uniform, and shares the fixed part."""
    pairs = []
    for n in range(4000):
        fixed = chance.gauss("fixed", n)
        pairs.append([chance.mixed(fixed, chance.gauss("fresh", side, n), 0.2) for side in "ab"])
    firsts = [first for first, _ in pairs]
    assert sum(firsts) / 4000 == pytest.approx(0.5, abs=0.02)
    assert sum(first < 0.1 for first in firsts) / 4000 == pytest.approx(0.1, abs=0.02)
    assert sum((first < 0.5) == (second < 0.5) for first, second in pairs) / 4000 > 0.75
