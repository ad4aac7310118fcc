import pytest

from dspex.errors import DefinitionError, OverloadedError
from dspex.reliability.degrade import Degradation, Level, Load, Work, machine_load


@pytest.mark.parametrize(
    ("load", "level"),
    [
        (Load(69, 79, 249), Level.NORMAL),
        (Load(cpu_percent=70), Level.STRAINED),
        (Load(cpu_percent=80), Level.DEGRADED),
        (Load(memory_percent=80), Level.STRAINED),
        (Load(memory_percent=90), Level.DEGRADED),
        (Load(queued=250), Level.STRAINED),
        (Load(queued=500), Level.DEGRADED),
    ],
)
def test_thresholds(clock, load, level):
    """Processors, memory and queue each strain and degrade by themselves."""
    degradation = Degradation(clock=clock)
    change = degradation.observe(load)
    assert degradation.level is level
    assert (change is None) == (level is Level.NORMAL)


def test_what_pauses():
    """Strained, optimization pauses; degraded, complex reasoning too; simple work never does."""
    allowed = {}
    for load in (Load(), Load(queued=250), Load(queued=500)):
        degradation = Degradation()
        degradation.observe(load)
        allowed[degradation.level] = [work for work in Work if degradation.allows(work)]
    assert allowed == {
        Level.NORMAL: [Work.OPTIMIZATION, Work.REASONING, Work.SIMPLE],
        Level.STRAINED: [Work.REASONING, Work.SIMPLE],
        Level.DEGRADED: [Work.SIMPLE],
    }


def test_paused_work_is_refused_with_the_wait():
    """The error says which work pauses, why, and for how long at least."""
    degradation = Degradation(calm_s=7)
    degradation.observe(Load(cpu_percent=95))
    degradation.check(Work.SIMPLE)
    with pytest.raises(OverloadedError, match="optimization pauses while the machine is degraded") as caught:
        degradation.check(Work.OPTIMIZATION)
    assert caught.value.retry_after_s == 7


def test_it_returns_step_by_step_after_a_calm_while(clock):
    """Only a load well below the threshold, for long enough, brings one level back at a time."""
    degradation, changes = Degradation(calm_s=10, clock=clock), []
    loads = {0: 500, 5: 460, 20: 300, 29: 300, 30: 300, 31: 0, 40: 0, 41: 0}
    for second, queued in loads.items():
        clock.now = float(second)
        change = degradation.observe(Load(queued=queued))
        if change is not None:
            changes.append((second, change.after, change.reason))
    assert changes == [
        (0, Level.DEGRADED, "queued 500 >= 500"),
        (30, Level.STRAINED, "calm for 10 s"),
        (41, Level.NORMAL, "calm for 10 s"),
    ]


def test_a_load_at_the_threshold_does_not_flutter(clock):
    """Going just below and above a threshold for ever changes the level once."""
    degradation = Degradation(clock=clock)
    changes = []
    for second in range(200):
        clock.now = float(second)
        changes.append(degradation.observe(Load(cpu_percent=79 + second % 2)))
    assert [each.after for each in changes if each] == [Level.STRAINED, Level.DEGRADED]


def test_thresholds_in_the_wrong_order_are_refused():
    """What degrades must not come before what strains."""
    with pytest.raises(DefinitionError, match="cpu_percent must strain before it degrades"):
        Degradation(strained_at=Load(90, 80, 250), degraded_at=Load(80, 90, 500))


def test_the_machine_can_be_measured():
    """The load of this machine is known in percent."""
    load = machine_load(queued=3)
    assert load.queued == 3
    assert 0 <= load.memory_percent <= 100
    assert load.cpu_percent >= 0
