import itertools
import random
import re

import pytest

from dspex.errors import VariableError
from dspex.variables.formulas import Composite
from dspex.variables.graph import ancestors, ordered
from dspex.variables.numeric import Int
from dspex.variables.space import Space


def dag(rng):
    """Draw an acyclic graph: each name needs some of those before it in a hidden order."""
    names = [f"v{k}" for k in range(rng.randint(2, 12))]
    rng.shuffle(names)
    needs = {name: rng.sample(names[:k], rng.randint(0, min(k, 3))) for k, name in enumerate(names)}
    shuffled = list(needs)
    rng.shuffle(shuffled)
    return {name: needs[name] for name in shuffled}


@pytest.mark.parametrize("seed", range(10))
def test_a_thousand_graphs_are_put_in_order(seed):
    """Of 1000 random graphs, every name stands once and after all that it needs."""
    rng = random.Random(seed)
    for _ in range(100):
        needs = dag(rng)
        order = ordered(needs)
        assert sorted(order) == sorted(needs)
        for name, needed in needs.items():
            assert all(order.index(each) < order.index(name) for each in needed)


@pytest.mark.parametrize("seed", range(10))
def test_a_thousand_circles_are_shown(seed):
    """In 1000 random graphs with a circle, the message goes round one, each arrow from who needs to what it needs."""
    rng = random.Random(seed)
    for _ in range(100):
        needs = {name: list(needed) for name, needed in dag(rng).items()}
        around = rng.sample(list(needs), rng.randint(1, len(needs)))
        for name, needed in zip(around, [*around[1:], around[0]], strict=True):
            needs[name].append(needed)
        with pytest.raises(VariableError) as caught:
            ordered(needs)
        path = re.search("got (.*)", caught.value.message)[1].split(" → ")
        assert path[0] == path[-1]
        assert all(after in needs[before] for before, after in itertools.pairwise(path))


def test_spaces_refuse_circles_by_their_path():
    """Conditions and formulas depend on one another alike."""
    with pytest.raises(VariableError) as caught:
        Space(a=Int(0, 1).given(b=1), b=Composite("c + 1"), c=Composite("a * 2"))
    path = re.search("got (.*)", caught.value.message)[1].split(" → ")
    assert set(path) == {"a", "b", "c"}
    assert path[0] == path[-1]


def test_what_is_needed_is_found_through_others():
    """Ancestors are direct and indirect needs."""
    needs = {"a": [], "b": ["a"], "c": ["b"], "d": ["c", "a"], "e": []}
    assert ancestors(["d"], needs) == {"a", "b", "c"}
    assert ancestors(["e"], needs) == set()
