"""The functions that exist in C too: both ways say the same, of everything that the adapters do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dspex as dx
from dspex.bridge.compiled.watching import holds_the_same, stores_of_examples

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
TOOLS_ARE_MISSING = 3
# Runs pytest with a folder of built modules on the package's path.
RUN = """
import sys
import dspex.bridge.compiled
dspex.bridge.compiled.__path__.append(sys.argv[1])
from dspex import adapters
assert adapters.path() == sys.argv[2], adapters.path()
import pytest
sys.exit(pytest.main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the module into a folder of its own."""
    folder = tmp_path_factory.mktemp("built")
    done = subprocess.run(
        [sys.executable, ROOT / "hatch_build.py", folder], capture_output=True, text=True, check=False
    )
    if done.returncode == TOOLS_ARE_MISSING:
        if os.environ.get("DSPEX_REQUIRE_COMPILER"):
            pytest.fail(done.stdout)
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.timeout(7200)
def test_the_other_path_gives_what_dspy_gives(built):
    """The identity tests and those of the adapters pass in C if these here run in Python, and the other way round."""
    other = "pure" if dx.adapters.path() == "compiled" else "compiled"
    settings = {"DSPEX_PURE": "1" if other == "pure" else "", "PYTHONPATH": str(ROOT)}
    settings["DSPEX_IDENTITY_CASES"] = os.environ.get("DSPEX_IDENTITY_CASES", "1000")
    tests = [HERE / f"test_{name}.py" for name in ("adapters", "identity", "tools", "watching")]
    done = subprocess.run(
        [sys.executable, "-c", RUN, built, other, *tests, "-q", "-p", "no:cacheprovider", "-k", "not other_path"],
        env={**os.environ, **settings}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_containers_hold_the_same_only_if_each_object_does():
    """Equal is not enough, and neither is a beginning."""
    one, other = [1.5], [1.5]
    before = ([{"a": one, "b": 2}], [["x"]], [one, 2, "x"])

    def same(dicts, lists):
        return holds_the_same(dicts, before[0], lists, before[1], before[2])

    assert same([{"a": one, "b": 2}], [["x"]])
    changed = [
        ([{"a": other, "b": 2}], [["x"]]),
        ([{"a": one, "b": 2.0}], [["x"]]),
        ([{"a": one, "c": 2}], [["x"]]),
        ([{"b": 2, "a": one}], [["x"]]),
        ([{"a": one}], [["x"]]),
        ([{"a": one, "b": 2, "c": 3}], [["x"]]),
        ([{"a": one, "b": 2}, {}], [["x"]]),
        ([], [["x"]]),
        ([{"a": one, "b": 2}], [["x", "x"]]),
        ([{"a": one, "b": 2}], [[]]),
        ([{"a": one, "b": 2}], []),
    ]
    assert not any(same(dicts, lists) for dicts, lists in changed)


def test_only_examples_of_known_types_give_their_store():
    """One of another type, whatever it has, makes it None."""
    import dspy

    kinds = frozenset({dspy.Example})
    assert stores_of_examples([dspy.Example(a=1)], kinds) == [{"a": 1}]
    assert stores_of_examples([dspy.Example(a=1), dspy.Prediction(b=2)], kinds) is None
