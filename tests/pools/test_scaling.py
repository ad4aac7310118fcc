"""A pool grows at once, shrinks slowly, and does not flap."""

from __future__ import annotations

import itertools

import pytest

from dspex.pools import PoolSpec
from dspex.pools.scaling import Scaling

SPEC = PoolSpec(workers=8, min_workers=2, idle_stop_s=30, cooldown_s=10)


class World:
    """A pool under a clock of its own: one idle time for each worker, and how many there were after each second."""

    def __init__(self, spec=SPEC):
        self.scaling, self.now = Scaling(spec), 0.0
        self.idle_since = [0.0] * spec.min_workers
        self.seen = []

    def run(self, load, seconds):
        """Have `load` tasks run for so long."""
        for _ in range(seconds):
            wanted = self.scaling.grow(needed=load, now=self.now)
            self.idle_since += [self.now] * (wanted - len(self.idle_since))
            self.idle_since[:load] = [self.now] * min(load, len(self.idle_since))
            # Work goes to the first that is free, so that it is the last that are spare.
            for idle_since in reversed(self.idle_since[load:]):
                if self.scaling.shrink(idle_since=idle_since, now=self.now):
                    self.idle_since.pop()
            self.seen.append(len(self.idle_since))
            self.now += 1
        return self

    @property
    def changes(self):
        return [b - a for a, b in itertools.pairwise(self.seen) if a != b]


def test_a_burst_takes_every_worker_at_once():
    """More work than workers makes the pool as large as it may be, and no larger."""
    world = World().run(0, 5).run(20, 1)
    assert world.seen == [2, 2, 2, 2, 2, 8]


def test_idle_workers_go_one_by_one():
    """Without work the pool shrinks to its fewest, a worker each cooldown, and stays there."""
    world = World().run(20, 1).run(0, 200)
    assert world.changes == [-1] * 6
    assert world.seen[30] == 8
    assert world.seen[31:92:10] == [7, 6, 5, 4, 3, 2, 2]


@pytest.mark.parametrize(("busy", "idle"), [(1, 9), (10, 10), (5, 29)])
def test_sixty_cycles_of_load_do_not_flap(busy, idle):
    """A load that comes and goes sixty times finds its workers there: they come once, and go once."""
    world = World()
    for _ in range(60):
        world.run(8, busy).run(0, idle)
    assert world.seen[-idle:] == [8] * idle
    assert world.changes == []
    world.run(0, 200)
    assert world.changes == [-1] * 6


def test_a_load_between_two_sizes_does_not_flap():
    """A load that wavers by one worker keeps that worker; its pauses are shorter than what makes one go."""
    world = World().run(8, 1)
    for cycle in range(60):
        world.run(7 + cycle % 2, 10)
    assert world.changes == []


def test_slow_cycles_change_no_faster_than_the_cooldown():
    """Even where pauses are long, a cooldown lies between a change and the next worker that goes."""
    world = World()
    for _ in range(60):
        world.run(8, 1).run(0, 45)
    went = [second for second, (a, b) in enumerate(itertools.pairwise(world.seen)) if b < a]
    assert went
    assert min(b - a for a, b in itertools.pairwise(went)) >= 10
    assert min(world.seen) >= 6


def test_workers_that_are_kept_do_not_go():
    """`idle_stop_s=None` keeps what was started."""
    world = World(PoolSpec(workers=4, idle_stop_s=None)).run(4, 1).run(0, 1000)
    assert world.seen[-1] == 4
