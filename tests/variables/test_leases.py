"""Leases: several optimizers, one space, and never two writers of one variable."""

from __future__ import annotations

import gc
import random
import threading

import pytest
from clocks import Clock

import dspex as dx
from dspex.errors import CancelledError, DefinitionError, LeaseError, UnknownNameError, VariableError
from dspex.variables import leases

TRIAGE = dx.sandbox.task("triage")
SIGNATURE = dx.signature(TRIAGE.signature, TRIAGE.instructions, name="Triage")


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture
def registry(clock: Clock) -> dx.Registry:
    return dx.Registry(
        dx.Space(temperature=dx.Float(0.0, 1.5), tone=dx.Choice(["brief", "kind"]), n=dx.Int(0, 9)),
        clock=clock,
    )


class Owner:
    """Somebody who may be forgotten."""

    name = "somebody"


class TestWriting:
    """Who holds a lease writes; the others are told who does."""

    def test_others_are_refused_with_owner_and_time(self, registry):
        """The refusal names each variable, its owner and since when; free variables stay free."""
        with registry.lease(["temperature", "tone"], "beacon"):
            with pytest.raises(LeaseError) as caught:
                registry["temperature"] = 0.2
            assert caught.value.message == "temperature is leased by beacon since 1970-01-01 00:00:00 UTC"
            with pytest.raises(
                LeaseError, match=r"temperature is leased by beacon .*; tone is leased by beacon"
            ):
                registry.set({"temperature": 0.2, "tone": "kind"})
            registry["n"] = 3
            assert "temperature, tone leased by beacon" in repr(registry)
        registry["temperature"] = 0.2
        assert registry.version == 2

    def test_the_lease_writes_in_the_owners_name(self, registry):
        """The history says who and why."""
        with registry.lease(["temperature"], "beacon") as lease:
            lease["temperature"] = 0.1
            lease.set({"temperature": 0.2}, why="better")
        assert [(change.by, change.why) for change in registry.history] == [
            ("beacon", ""),
            ("beacon", "better"),
        ]

    def test_a_released_lease_writes_nothing(self, registry):
        """Its end is the end of the right."""
        with registry.lease(["temperature"], "beacon") as lease:
            pass
        lease.release()
        with pytest.raises(LeaseError, match="beacon's lease of temperature is released"):
            lease["temperature"] = 0.1
        assert lease.status == "released"

    def test_rewinding_respects_leases(self, registry):
        """What somebody else holds is not rewound behind his back."""
        registry["temperature"] = 0.1
        with registry.lease(["temperature"], "beacon"), pytest.raises(LeaseError, match="leased by beacon"):
            registry.rewind(0)


class TestConflicts:
    """Wait in the queue, abort, or preempt."""

    def test_queued_then_held(self, registry):
        """The second is queued, and holds the lease as soon as the first lets go."""
        first = registry.lease(["temperature"], "one")
        second = registry.lease("temperature", "two")
        assert (first.status, second.status) == ("held", "queued")
        with pytest.raises(LeaseError, match="two's lease of temperature is queued"):
            second["temperature"] = 0.1
        first.release()
        assert second.status == "held"
        second["temperature"] = 0.1

    def test_first_come_first_served(self, registry):
        """Nobody overtakes for a variable, also not with a smaller wish; others pass."""
        first = registry.lease(["temperature"], "one")
        both = registry.lease(["temperature", "tone"], "two")
        late = registry.lease(["tone"], "three")
        free = registry.lease(["n"], "four")
        assert [each.status for each in (both, late, free)] == ["queued", "queued", "held"]
        first.release()
        assert [each.status for each in (both, late)] == ["held", "queued"]
        both.release()
        assert late.status == "held"

    def test_abort(self, registry):
        """It says who has it, and leaves no trace in the queue."""
        first = registry.lease(["temperature"], "one")
        with pytest.raises(LeaseError, match="two cannot have temperature, leased by one since"):
            registry.lease(["temperature", "tone"], "two", on_conflict="abort")
        first.release()
        assert registry.lease(["temperature"], "three", on_conflict="abort").status == "held"

    def test_preempt(self, registry):
        """The loser is told, and its next write is refused with the winner's name."""
        told = []
        loser = registry.lease(["temperature", "tone"], "one", on_preempted=told.append)
        waiting = registry.lease(["temperature"], "two")
        winner = registry.lease(["temperature"], "three", on_conflict="preempt")
        assert told == [loser]
        assert [each.status for each in (loser, waiting, winner)] == ["preempted", "queued", "held"]
        for act in (lambda: loser.set({"tone": "kind"}), loser.heartbeat, loser.wait):
            with pytest.raises(LeaseError, match="one's lease of temperature, tone was preempted by three"):
                act()
        winner["temperature"] = 0.1
        winner.release()
        assert waiting.status == "held"

    def test_a_loser_that_fails_costs_the_winner_nothing(self, registry, caplog):
        """What goes wrong while it is told is logged, and the winner has its lease."""
        registry.lease(["temperature"], "one", on_preempted=lambda _: 1 / 0)
        assert registry.lease(["temperature"], "two", on_conflict="preempt").status == "held"
        assert "one could not be told" in caplog.text

    def test_waiting_ends_when_the_time_is_over(self, registry, clock):
        """Who waited in vain leaves the queue."""
        first = registry.lease(["temperature"], "one")
        with (
            pytest.raises(LeaseError, match="two waited 0 s in vain for temperature, leased by one since"),
            registry.lease(["temperature"], "two", timeout_s=0),
        ):
            pass
        first.release()
        assert registry.lease(["temperature"], "three").status == "held"

    def test_waiting_ends_when_somebody_says_so(self, registry):
        """A stop that says yes cancels the waiting."""
        registry.lease(["temperature"], "one")
        second = registry.lease(["temperature"], "two")
        with pytest.raises(CancelledError, match="waiting for temperature was cancelled"):
            second.wait(stop=lambda: True)
        assert second.status == "released"

    def test_waiting_for_oneself_is_refused(self, registry):
        """Directly, or around a circle of others; whoever closes the circle is told."""
        registry.lease(["temperature"], "one")
        registry.lease(["tone"], "two")
        with pytest.raises(LeaseError, match="one would wait for itself: it holds temperature and asks for"):
            registry.lease(["temperature"], "one")
        assert registry.lease(["tone"], "one").status == "queued"
        with pytest.raises(
            LeaseError, match=r"two would wait for itself: it holds tone and asks for temperature"
        ):
            registry.lease(["temperature"], "two")

    @pytest.mark.parametrize(
        ("ask", "error", "message"),
        [
            (lambda r: r.lease([], "me"), VariableError, "at least one variable must be named"),
            (lambda r: r.lease(["n"], "me", on_conflict="grab"), UnknownNameError, "'grab'"),
            (lambda r: r.lease(["n"], 42), DefinitionError, "an owner is a text, a thread or an object"),
        ],
    )
    def test_bad_wishes(self, registry, ask, error, message):
        """What cannot be asked is said."""
        with pytest.raises(error, match=message):
            ask(registry)


class TestDeadOwners:
    """Nobody holds a lease beyond his end."""

    def test_of_a_thread_that_has_ended(self, registry):
        """A lease asked for by name ends with the thread that asked, and who waits is granted it."""
        held = threading.Event()

        def die() -> None:
            registry.lease(["temperature"], "one")
            held.set()

        thread = threading.Thread(target=die)
        thread.start()
        held.wait()
        second = registry.lease(["temperature"], "two").wait(timeout_s=60)
        assert second.status == "held"
        assert leases.SWEEP_S <= 1.0

    def test_a_thread_may_be_the_owner_before_it_begins(self, registry):
        """It is not taken for dead; once it has ended it is."""
        thread = threading.Thread(target=lambda: None, name="worker")
        lease = registry.lease(["temperature"], thread)
        assert (lease.owner, lease.status) == ("worker", "held")
        thread.start()
        thread.join()
        assert lease.status == "abandoned"

    def test_of_an_object_that_is_gone(self, registry):
        """When the owner is collected, the next in the queue holds the lease."""
        owner = Owner()
        lease = registry.lease(["temperature"], owner)
        second = registry.lease(["temperature"], "two")
        assert (lease.owner, second.status) == ("somebody", "queued")
        del owner
        gc.collect()
        assert (second.status, lease.status) == ("held", "abandoned")

    def test_of_one_that_is_silent(self, registry, clock):
        """Without a heartbeat or a write a lease with a time to live expires."""
        lease = registry.lease(["temperature"], "one", ttl_s=10)
        clock.now = 9
        lease.heartbeat()
        clock.now = 18
        lease["temperature"] = 0.1
        clock.now = 27
        assert lease.status == "held"
        clock.now = 28
        assert lease.status == "expired"
        with pytest.raises(LeaseError, match="one's lease of temperature is expired"):
            lease.heartbeat()
        registry["temperature"] = 0.2


def test_a_thousand_random_acquisitions_end(registry):
    """Eight threads that lease random sets of variables all finish, and never hold one together."""
    names = ["temperature", "tone", "n"]
    writers = dict.fromkeys(names, 0)
    overlaps, done = [], []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(125):
            wanted = rng.sample(names, rng.randint(1, 3))
            with registry.lease(wanted, f"worker {seed}") as lease:
                for name in wanted:
                    writers[name] += 1
                overlaps.extend(name for name in wanted if writers[name] != 1)
                lease.set({name: registry[name] for name in wanted})
                for name in wanted:
                    writers[name] -= 1
            done.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == registry.version == 1000
    assert overlaps == []


@pytest.mark.usefixtures("runtime")
class TestStudies:
    """Studies of one registry take turns."""

    @staticmethod
    def study(registry: dx.Registry, name: str, **options) -> dx.Study:
        return dx.optimize(
            SIGNATURE,
            space=registry,
            trainset=TRIAGE.train[:8],
            metric=dx.metrics.exact_match,
            optimizer="random",
            budget=dx.Budget(trials=2),
            name=name,
            **options,
        )

    @pytest.fixture
    def shared(self) -> dx.Registry:
        return dx.Registry(dx.Space(temperature=dx.Float(0.0, 1.5)))

    def test_the_second_is_queued_then_runs(self, shared):
        """While somebody holds the variables it waits, then it searches."""
        with shared.lease(["temperature"], "me"):
            study = self.study(shared, "second")
            assert (study.state, study.finished_trials) == ("queued", ())
        assert study.wait().state == "finished"
        assert len(study.finished_trials) == 2

    def test_a_study_that_has_ended_lets_go(self, shared):
        """After it the registry can be written and another one runs; meanwhile nobody writes."""
        for name in ("one", "two"):
            assert self.study(shared, name).wait().state == "finished"
        shared["temperature"] = 0.2

    def test_a_queued_study_can_be_cancelled(self, shared):
        """It leaves the queue, and has no trial."""
        with shared.lease(["temperature"], "me"):
            study = self.study(shared, "second")
            study.cancel()
            assert study.wait().state == "cancelled"
        assert study.finished_trials == ()

    def test_abort_and_preempt(self, shared):
        """An aborted study leaves no row; a preempted one says by whom."""
        holder = self.study(shared, "holder", on_conflict="wait")
        holder.wait()
        with shared.lease(["temperature"], "me") as mine:
            with pytest.raises(LeaseError, match="other cannot have temperature, leased by me"):
                self.study(shared, "other", on_conflict="abort")
            assert list(dx.runs().index) == ["holder"]
            waiting = self.study(shared, "waiting")
            winner = self.study(shared, "winner", on_conflict="preempt")
            assert mine.status == "preempted"
            assert winner.wait().state == "finished"
            assert waiting.wait().state == "finished"

    def test_a_preempted_study_is_cancelled(self, shared):
        """It ends with what it has, and its reason names the other one."""
        begun, going = threading.Event(), threading.Event()

        def metric(example, prediction):
            if threading.current_thread() is not threading.main_thread():
                begun.set()
                going.wait()
            return 1.0

        loser = dx.optimize(
            SIGNATURE,
            space=shared,
            trainset=TRIAGE.train[:4],
            metric=metric,
            name="loser",
            optimizer="random",
        )
        begun.wait()
        with pytest.raises(LeaseError, match="temperature is leased by loser since"):
            shared["temperature"] = 0.1
        with shared.lease(["temperature"], "me", on_conflict="preempt"):
            going.set()
            assert loser.wait().state == "cancelled"
        assert loser.reason == "preempted by me"
