"""The benchmark of optimizers: its worlds keep what they say, and its tables hold every method."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dspex import bench
from dspex.bench import optimizers
from dspex.bench.optimizers import methods, worlds
from dspex.bench.optimizers.table import Curves, Job, curve
from dspex.cli import main
from dspex.errors import DataError


@pytest.mark.parametrize("family", sorted(worlds.FAMILIES))
def test_nothing_in_a_world_is_better_than_its_best(family):
    """Two thousand random configurations have a regret of at least 0, and the nearest is near."""
    world, rng = worlds.FAMILIES[family](3), random.Random(0)
    regrets = [world.regret(world.space.sample(rng)) for _ in range(2000)]
    assert min(regrets) >= 0
    assert min(regrets) < 0.05
    assert world.calls == 0


def test_a_pair_is_paid_for_once():
    """Scores repeat, and a repetition costs nothing."""
    world = worlds.prompt(0)
    first = world.score(world.space.default(), [1, 2, 3])
    assert world.score(world.space.default(), [3, 2, 1]) == first[::-1]
    assert world.calls == 3


def test_scores_are_as_often_right_as_the_truth_says():
    """The share of right answers over all examples is the expected score, within its noise."""
    world = worlds.prompt(1)
    share = np.mean(world.score(world.space.default(), range(world.n_examples)))
    best = max(1 - world.regret(each) for each in world.space.candidates())
    assert best == pytest.approx(1)
    assert share == pytest.approx(world._expected(world._ability(world.space.default())), abs=0.08)


@pytest.mark.parametrize("name", [name for name, each in methods.METHODS.items() if not each.needs_torch])
def test_every_method_spends_calls_and_recommends(name):
    """Each runs on a small prompt world, and its curve starts at the default's regret and ends no worse than 0."""
    found = curve(Job("prompt", name, 0, 400 if name == "beacon-1" else 700))
    world = worlds.prompt(0)
    assert len(found) == (20 if name == "beacon-1" else 35)
    assert found[0] <= 1
    assert found[-1] >= 0
    assert found[-1] <= world.regret(world.space.default())


def test_beacon_needs_a_third_of_the_calls_of_mipros_scheme():
    """On three prompt worlds BEACON's mean regret after 700 calls is below that of MIPROv2's scheme after 2100."""
    ours = [curve(Job("prompt", "beacon", seed, 700))[-1] for seed in range(3)]
    theirs = [curve(Job("prompt", "mipro", seed, 2100))[-1] for seed in range(3)]
    assert np.mean(ours) <= np.mean(theirs)


def test_calls_to_a_regret_are_read_off_the_median():
    """The first point at which the median is low enough; None when it never is."""
    found = Curves(np.array([20, 40, 60]), np.array([[0.5, 0.02, 0.0], [0.5, 0.0, 0.0], [0.5, 0.4, 0.3]]))
    assert found.calls_to(0.02) == 40
    assert found.calls_to(0.01) == 60
    assert found.calls_to(-1) is None
    assert found.median_at(40)[0] == 0.02


def test_a_matrix_comes_from_a_file(tmp_path, monkeypatch, capsys):
    """Its name and size head a table, side by side with the bandit."""
    path = tmp_path / "scores.npz"
    np.savez(path, scores=worlds.unstructured(0, 6, 30))
    shown = ("beacon", "ucbe")
    monkeypatch.setattr(optimizers, "METHODS", {name: methods.METHODS[name] for name in shown})
    monkeypatch.setattr(optimizers, "_POOL_BUDGET", 100)
    monkeypatch.setattr(optimizers, "PARTS", ("matrix",))
    assert main(["bench", "optimizers", "--seeds", "2", "--matrix", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"{path}, 6 configurations x 30 examples" in out
    assert "UCB-E" in out
    assert "optuna 5" in out


def test_bad_matrices_and_options_are_refused(tmp_path):
    """A missing file, no table, and options for another benchmark say what was wrong."""
    with pytest.raises(DataError, match="cannot read"):
        worlds.load(tmp_path / "nowhere.npz")
    np.save(tmp_path / "line.npy", np.ones(4))
    with pytest.raises(DataError, match=r"got shape \(4,\)"):
        worlds.load(tmp_path / "line.npy")
    with pytest.raises(DataError, match="seeds can be set for the benchmark 'optimizers' alone"):
        bench.run(["routing"], seeds=3)
