"""The registry: one place for a space's values, with versions, history and watchers."""

from __future__ import annotations

import asyncio
import logging
import pickle
import random
import threading

import dspy
import pytest
from clocks import Clock

import dspex as dx
from dspex.bridge import binding
from dspex.errors import (
    DefinitionError,
    ExecutionError,
    StaleVersionError,
    UnknownNameError,
    VariableError,
)
from dspex.records import Change
from dspex.sandbox import SimulatedModel

TRIAGE = dx.sandbox.task("triage")
SIGNATURE = dx.signature(TRIAGE.signature, TRIAGE.instructions, name="Triage")
MESSAGE = TRIAGE.dev[0].message


def space() -> dx.Space:
    return dx.Space(temperature=dx.Float(0.0, 1.5, default=0.7), tone=dx.Choice(["brief", "kind"]))


class TestValues:
    """Reading and writing, all or none."""

    def test_begins_with_the_defaults_and_what_was_given(self):
        """Version 0 is the space's default, with the given values on top."""
        registry = dx.Registry(space(), {"tone": "kind"})
        assert dict(registry) == {"temperature": 0.7, "tone": "kind"}
        assert (registry.version, registry.history, len(registry)) == (0, (), 2)

    def test_a_write_is_a_version(self):
        """Each write moves the version on by one, whether one variable is written or several."""
        registry = dx.Registry(space())
        registry["temperature"] = 0.2
        change = registry.set({"temperature": 0.4, "tone": "kind"}, by="me", why="too dry")
        assert (change.version, registry.version) == (2, 2)
        assert repr(registry) == "<Registry version 2: temperature=0.4, tone='kind'>"

    def test_a_snapshot_stays_as_it_is(self):
        """A configuration that was read cannot be written, and later writes do not reach it."""
        registry = dx.Registry(space())
        before = registry.configuration
        registry["temperature"] = 0.2
        assert before["temperature"] == 0.7
        with pytest.raises(TypeError):
            before["temperature"] = 0.1

    def test_a_wrong_write_changes_nothing_and_names_every_failure(self):
        """Unknown names and values out of range are said at once."""
        registry = dx.Registry(space())
        with pytest.raises(VariableError) as caught:
            registry.set({"temperature": 2.0, "tonne": "kind", "tone": "brief"})
        assert "temperature must be in [0, 1.5], got 2.0" in str(caught.value)
        assert "tonne is not a variable of this space (did you mean 'tone'?)" in str(caught.value)
        assert registry.version == 0

    def test_a_wrong_beginning_is_refused(self):
        """The first configuration is checked like any other."""
        with pytest.raises(VariableError, match="temperature must be in"):
            dx.Registry(space(), {"temperature": 9.0})

    def test_an_unknown_name_says_which_was_meant(self):
        """Reading, watching and leasing know the names."""
        registry = dx.Registry(space())
        for ask in (
            lambda: registry["temprature"],
            lambda: registry.watch(print, ["temprature"]),
            lambda: registry.lease(["temprature"], "me"),
        ):
            with pytest.raises(UnknownNameError, match="did you mean 'temperature'"):
                ask()


class TestHistory:
    """Who, why, when, and back again."""

    def test_ten_grid_and_fifty_feedback_updates_are_sixty_entries_in_order(self):
        """The history keeps every write with its time, writer, reason, and values before and after."""
        clock = Clock()
        registry = dx.Registry(space(), clock=clock)
        for k in range(60):
            clock.now += 1
            registry.set({"temperature": k / 100}, by="grid" if k < 10 else "feedback", why=f"step {k}")
        history = registry.history
        assert [change.version for change in history] == list(range(1, 61))
        assert [change.by for change in history] == ["grid"] * 10 + ["feedback"] * 50
        assert history[20] == Change(
            21, 1_000_021.0, "feedback", "step 20", {"temperature": 0.19}, {"temperature": 0.2}
        )

    def test_the_table_lists_what_a_write_changed(self):
        """A value that was written again has no row; one that begins or ends to exist has one, also as None."""
        registry = dx.Registry(
            dx.Space(
                module=dx.Choice(["Predict", "BestOfN"]),
                hint=dx.Choice([None, "look twice"]).given(module="BestOfN"),
            ),
            clock=Clock(0.0),
        )
        registry.set({"module": "Predict"})
        registry.set({"module": "BestOfN"})
        registry.set({"module": "BestOfN", "hint": "look twice"})
        registry.set({"module": "Predict"})
        frame = registry.history_frame
        assert list(zip(frame["version"], frame["variable"], strict=True)) == [
            (2, "module"),
            (2, "hint"),
            (3, "hint"),
            (4, "module"),
            (4, "hint"),
        ]
        assert [change.version for change in registry.history] == [1, 2, 3, 4]

    def test_the_history_as_a_table(self):
        """One row for each variable that a write changed."""
        registry = dx.Registry(space(), clock=Clock(0.0))
        assert registry.history_frame.empty
        registry.set({"temperature": 0.1, "tone": "kind"}, by="me", why="try")
        frame = registry.history_frame
        assert list(frame["variable"]) == ["temperature", "tone"]
        assert list(frame["before"]) == [0.7, "brief"]
        assert list(frame["after"]) == [0.1, "kind"]
        assert str(frame["at"].iloc[0]) == "1970-01-01 00:00:00+00:00"

    def test_rewinding_restores_exactly(self):
        """Whatever was written meanwhile, the values of a version come back, as a new version."""
        rng = random.Random(0)
        variables = space()
        registry = dx.Registry(variables)
        seen = [dict(registry.configuration)]
        for _ in range(100):
            drawn = variables.sample(rng)
            name = rng.choice([*drawn])
            registry.set({name: drawn[name]})
            seen.append(dict(registry.configuration))
        for version in (0, 37, 99, 100, 12):
            assert registry.at(version) == seen[version]
            before = registry.version
            assert registry.rewind(version) == seen[version]
            assert dict(registry.configuration) == seen[version]
            assert registry.version == before + 1
        assert registry.history[-1].why == "rewound to version 12"

    @pytest.mark.parametrize("version", [-1, 1])
    def test_there_is_no_version_outside_the_history(self, version):
        """A version that never was cannot be restored."""
        with pytest.raises(VariableError, match=rf"a version is in \[0, 0\], got {version}"):
            dx.Registry(space()).rewind(version)

    def test_a_change_crosses_process_borders(self):
        """A change is plain data."""
        change = dx.Registry(space()).set({"temperature": 0.1})
        assert pickle.loads(pickle.dumps(change)) == change  # noqa: S301  # our own bytes


class TestOptimisticWrites:
    """A write may ask that nobody was sooner."""

    def test_a_stale_version_is_refused_with_the_values_of_now(self):
        """The error says which version and value there are, and nothing is written."""
        registry = dx.Registry(space())
        version = registry.version
        registry.set({"temperature": 0.3}, by="beacon")
        with pytest.raises(StaleVersionError) as caught:
            registry.set({"temperature": 0.9}, version=version)
        assert caught.value.message == (
            "version 0 is stale: the registry is at version 1, last written by beacon; now temperature=0.3"
        )
        assert caught.value.version == 1
        assert caught.value.configuration == {"temperature": 0.3, "tone": "brief"}
        assert registry["temperature"] == 0.3
        registry.set({"temperature": 0.9}, version=caught.value.version)
        assert registry["temperature"] == 0.9

    def test_of_many_who_count_up_nobody_is_lost(self):
        """Eight threads that read, add one and try again when they were late add up exactly."""
        registry = dx.Registry(dx.Space(n=dx.Int(0, 1000)))

        def count() -> None:
            for _ in range(50):
                while True:
                    version = registry.version
                    try:
                        registry.set({"n": registry["n"] + 1}, version=version)
                        break
                    except StaleVersionError:
                        continue

        in_threads(count, 8)
        assert registry["n"] == registry.version == 400


class TestWatching:
    """Watchers see every change, once, in order."""

    def test_ten_thousand_updates_from_eight_threads(self):
        """Each watcher sees all versions in order; one that raises stops nobody."""
        registry = dx.Registry(space())
        seen: list[list[int]] = [[], [], []]

        def raises(change: Change) -> None:
            raise RuntimeError(str(change.version))

        registry.watch(raises)
        for each in seen:
            registry.watch(lambda change, each=each: each.append(change.version))

        def write() -> None:
            for k in range(1250):
                registry["temperature"] = k / 1000

        in_threads(write, 8)
        assert registry.version == 10_000
        for each in seen:
            assert each == list(range(1, 10_001))

    def test_a_failure_is_logged_once(self, caplog):
        """The first failure is in the log with its traceback, the others are not."""
        registry = dx.Registry(space())
        registry.watch(lambda _: 1 / 0)
        with caplog.at_level(logging.ERROR, logger="dspex.variables"):
            registry["temperature"] = 0.1
            registry["temperature"] = 0.2
        assert caplog.text.count("a watcher failed on version") == 1
        assert "ZeroDivisionError" in caplog.text

    def test_only_the_names_asked_for(self):
        """A watcher of one variable hears nothing of the others."""
        registry, seen = dx.Registry(space()), []
        registry.watch(lambda change: seen.append(change.after), ["tone"])
        registry["temperature"] = 0.1
        registry.set({"temperature": 0.2, "tone": "kind"})
        assert seen == [{"temperature": 0.2, "tone": "kind"}]

    def test_until_it_ends(self):
        """Whoever has ended watching is not called again; another watcher of the same function is."""
        registry, seen = dx.Registry(space()), []
        unwatch = registry.watch(seen.append)
        registry.watch(seen.append)
        registry["temperature"] = 0.1
        unwatch()
        unwatch()
        registry["temperature"] = 0.2
        assert [change.version for change in seen] == [1, 1, 2]

    def test_a_watcher_may_write(self):
        """What a watcher writes comes to it and to the others after what it was called with."""
        registry, seen, others = dx.Registry(space()), [], []

        def follow(change: Change) -> None:
            seen.append(change.version)
            if change.version < 5:
                registry["temperature"] = change.version / 10

        registry.watch(follow)
        registry.watch(lambda change: others.append(change.version))
        registry["tone"] = "kind"
        assert seen == others == [1, 2, 3, 4, 5]

    def test_an_interrupted_watcher_goes_on_with_the_next_write(self):
        """An interrupt reaches the writer, and no later change is lost."""
        registry, seen = dx.Registry(space()), []

        def interrupted(change: Change) -> None:
            seen.append(change.version)
            if change.version == 1:
                raise KeyboardInterrupt

        registry.watch(interrupted)
        with pytest.raises(KeyboardInterrupt):
            registry["temperature"] = 0.1
        registry["temperature"] = 0.2
        assert seen == [1, 2]


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, float | None]]:
    """Collect the model and the temperature of every request to the sandbox."""
    seen: list[tuple[str, float | None]] = []
    answer = SimulatedModel.answer

    def noting(self, prompt):
        seen.append((self.name, prompt.temperature))
        return answer(self, prompt)

    monkeypatch.setattr(SimulatedModel, "answer", noting)
    return seen


def temperatures(asked: list[tuple[str, float | None]]) -> set[float | None]:
    found = {temperature for _, temperature in asked}
    asked.clear()
    return found


@pytest.mark.usefixtures("runtime")
class TestExecuting:
    """A call runs with the values of now, and says so."""

    def test_every_call_reads_the_values_of_now(self, asked):
        """A write between two calls changes what the second one asks with, its decision, trace and log."""
        registry = dx.Registry(dx.Space(temperature=dx.Float(0.0, 1.5, default=0.7)))
        dx.execute(SIGNATURE, space=registry, message=MESSAGE)
        assert temperatures(asked) == {0.7}
        registry["temperature"] = 0.2
        result = dx.execute(SIGNATURE, space=registry, message=MESSAGE)
        assert temperatures(asked) == {0.2}
        assert result.decision.configuration == {"temperature": 0.2}
        assert "temperature=0.2" in result.trace[2].detail
        assert list(dx.history()["configuration"]) == [{"temperature": 0.2}, {"temperature": 0.7}]

    def test_a_program_is_bound_once(self, monkeypatch):
        """The copy with which a task was checked beforehand is the one that runs."""
        bound, bind = [], binding.bind

        def counting(*args, **options):
            bound.append(bind(*args, **options))
            return bound[-1]

        monkeypatch.setattr(binding, "bind", counting)
        registry = dx.Registry(dx.Space(temperature=dx.Float(0.0, 1.5), model=dx.Model(["sandbox/small"])))
        dx.execute(dspy.Predict(SIGNATURE.to_dspy()), space=registry, message=MESSAGE)
        assert len(bound) == 1

    def test_awaiting_too(self, asked):
        """`aexecute` reads the same place."""
        registry = dx.Registry(dx.Space(temperature=dx.Float(0.0, 1.5, default=0.1)))
        asyncio.run(dx.aexecute(SIGNATURE, space=registry, message=MESSAGE))
        assert temperatures(asked) == {0.1}

    def test_model_and_module_pin_the_strategy(self, asked):
        """The parts that are named are fixed; the other is still chosen."""
        registry = dx.Registry(
            dx.Space(model=dx.Model(["sandbox/small", "sandbox/large"], default="sandbox/large"))
        )
        decision = dx.explain(SIGNATURE, space=registry, message=MESSAGE)
        assert {str(each.strategy) for each in decision.alternatives} == {
            "sandbox/large · Predict",
            "sandbox/large · ChainOfThought",
        }
        both = dx.Registry(
            dx.Space(model=dx.Model(["sandbox/small"]), module=dx.Module(["ChainOfThought", "Predict"]))
        )
        result = dx.execute(SIGNATURE, space=both, message=MESSAGE)
        assert str(result.decision.strategy) == "sandbox/small · ChainOfThought"
        assert result.reasoning
        both["module"] = "Predict"
        assert "reasoning" not in dx.execute(SIGNATURE, space=both, message=MESSAGE)
        assert {model for model, _ in asked} == {"small"}

    def test_a_model_that_is_not_configured_may_be_pinned(self, asked):
        """A model object of the space is asked itself."""
        dx.configure(["sandbox/small"], store="memory")
        registry = dx.Registry(dx.Space(model=dx.Model([dx.sandbox.lm("large")])))
        dx.execute(SIGNATURE, space=registry, message=MESSAGE)
        assert [model for model, _ in asked] == ["large"]

    def test_a_program_gets_the_values_and_is_left_alone(self, asked):
        """The program's own attributes, instructions and demos are set on a copy."""

        class Loud(dspy.Module):
            def __init__(self):
                super().__init__()
                self.times = 1
                self.label = dspy.Predict(SIGNATURE.to_dspy())

            def forward(self, message):
                for _ in range(self.times):
                    answer = self.label(message=message)
                return answer

        program = Loud()
        registry = dx.Registry(
            dx.Space(
                times=dx.Int(1, 3, default=3),
                instructions=dx.Choice(["Sort it.", "Sort it well."]),
                demos=dx.Int(0, 4, default=2),
                temperature=dx.Float(0.0, 1.0, default=0.5),
            ),
            demos=TRIAGE.train,
        )
        dx.execute(program, space=registry, message=MESSAGE)
        assert len(asked) == 3
        assert temperatures(asked) == {0.5}
        bound = registry.apply(program)
        assert len(bound.label.demos) == 2
        assert bound.label.signature.instructions == "Sort it."
        assert (program.times, program.label.demos, program.label.config) == (1, [], {})

    @pytest.mark.parametrize(
        ("registry", "message"),
        [
            (lambda: dx.Registry(dx.Space(tone=dx.Choice(["a"]))), "Predict has none of tone; it can vary"),
            (
                lambda: dx.Registry(dx.Space(demos=dx.Int(0, 4, default=2))),
                "2 demos need examples to take them from, got none",
            ),
            (space, "a task runs with the values of a registry, got Space"),
        ],
    )
    def test_values_that_cannot_be_used_are_refused_before_anything_runs(self, registry, message, asked):
        """Nothing is asked and nothing is logged."""
        with pytest.raises(DefinitionError, match=message):
            dx.execute(SIGNATURE, space=registry(), message=MESSAGE)
        assert not asked
        assert dx.history().empty


@pytest.mark.usefixtures("runtime")
class TestReach:
    """One write reaches a live call, a study, and DSPy's own optimizers."""

    @pytest.mark.parametrize("optimizer", ["beacon", "random"])
    def test_a_study_begins_with_the_values_of_now(self, optimizer, asked):
        """Its first trial is the registry's configuration, and that is what its baseline is."""
        registry = dx.Registry(dx.Space(temperature=dx.Float(0.0, 1.5, default=0.7)))
        registry["temperature"] = 0.25
        study = dx.optimize(
            SIGNATURE,
            space=registry,
            trainset=TRIAGE.train[:4],
            metric=dx.metrics.exact_match,
            optimizer=optimizer,
            budget=dx.Budget(trials=1),
        ).wait()
        assert study.baseline.configuration == {"temperature": 0.25}
        assert temperatures(asked) == {0.25}

    def test_adopting_writes_the_best_back(self):
        """By the study, because of its score; only when asked."""
        registry = dx.Registry(dx.Space(model=dx.Model(["sandbox/small", "sandbox/large"])))
        study = dx.optimize(
            SIGNATURE,
            space=registry,
            trainset=TRIAGE.train[:20],
            metric=dx.metrics.exact_match,
            budget=dx.Budget(trials=2),
            name="nightly",
        ).wait()
        assert registry.version == 0
        change = registry.adopt(study)
        assert dict(registry) == study.best.configuration
        assert change.by == "nightly"
        assert change.why == f"scored {study.best.score:.3f}, the default {study.baseline.score:.3f}"

    def test_adopting_needs_a_trial(self):
        """A study that was cancelled before its first trial has nothing to adopt."""
        registry = dx.Registry(dx.Space(temperature=dx.Float(0.0, 1.5)))
        with registry.lease(["temperature"], "me"):
            study = dx.optimize(
                SIGNATURE, space=registry, trainset=TRIAGE.train[:4], metric=dx.metrics.exact_match
            )
            study.cancel()
            study.wait()
        with pytest.raises(ExecutionError, match="no trial of"):
            registry.adopt(study)

    def test_one_write_reaches_simba_and_bootstrap(self, asked):
        """DSPy's optimizers, run on the applied program, ask with the temperature of now."""
        registry = dx.Registry(dx.Space(temperature=dx.Float(0.0, 1.5, default=0.7)))
        program = dspy.Predict(SIGNATURE.to_dspy())
        examples, lm = TRIAGE.train[:4], dx.sandbox.lm("small", resample=True)

        def bootstrapped() -> set[float | None]:
            optimizer = dspy.BootstrapFewShot(metric=dx.metrics.exact_match, max_bootstrapped_demos=2)
            optimizer.compile(registry.apply(program), trainset=examples)
            return temperatures(asked)

        def simba() -> set[float | None]:
            optimizer = dspy.SIMBA(
                metric=dx.metrics.exact_match, bsize=4, num_candidates=2, max_steps=1, num_threads=1
            )
            optimizer.compile(registry.apply(program), trainset=examples)
            return temperatures(asked)

        with dspy.context(lm=lm):
            assert bootstrapped() == {0.7}
            assert 0.7 in simba()
            registry["temperature"] = 0.15
            assert bootstrapped() == {0.15}
            after = simba()
        assert 0.15 in after
        assert 0.7 not in after


def in_threads(work, count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
