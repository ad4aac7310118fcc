"""Benchmarks print figures beside named peers; the figures themselves are recorded, not tested."""

from __future__ import annotations

import builtins

import pytest

import dspex as dx
from dspex import bench
from dspex.bench import (
    adapters,
    builtin,
    definitions,
    hedging,
    joint,
    neural,
    overload,
    pools,
    reliability,
    routing,
    scoring,
    spaces,
    studies,
    together,
)
from dspex.bench.timing import medians_us
from dspex.errors import DataError, UnknownNameError


def test_an_unknown_benchmark_names_the_nearest():
    """A misspelt name is an error with a suggestion."""
    with pytest.raises(UnknownNameError, match="did you mean 'routing'"):
        bench.run(["rooting"])


def test_times_are_medians_of_every_call():
    """Each call is timed as often as the others, in turn."""
    order = []
    found = medians_us({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3)
    assert order == ["a", "b"] * 4
    assert set(found) == {"a", "b"}


def test_definitions_print_every_figure(monkeypatch, capsys):
    """Definition, copying and checking stand beside DSPy's and pydantic's own; our class does not grow."""
    monkeypatch.setattr(definitions, "_GENERATIONS", 8)
    bench.run(["definitions"])
    lines = capsys.readouterr().out.splitlines()[3:]
    figures = {line[:60].strip(): float(line[60:-3].replace(",", "")) for line in lines}
    assert len(figures) == 11
    assert figures["class after 8 new instructions: dspex"] < figures["class after 8 new instructions: DSPy"]


def test_apply_prints_the_copies_beside_it(capsys):
    """Binding stands beside DSPy's copy of the same program."""
    bench.run(["apply"])
    lines = capsys.readouterr().out.splitlines()[3:]
    figures = {line[:60].strip(): float(line[60:-3]) for line in lines}
    assert len(figures) == 7
    assert all(figure > 0 for figure in figures.values())


def test_scoring_prints_ratios(monkeypatch, capsys):
    """A small run of the real benchmark: every peer has a figure, and a multiple of ours."""
    monkeypatch.setattr(scoring, "_BATCH", 20)
    bench.run(["scoring"])
    out = capsys.readouterr().out
    assert out.count("so many times the first") == 5
    assert "DSPy's answer_exact_match" in out


def test_pools_print_what_is_lost(monkeypatch, capsys):
    """A small run of parts of the real benchmark: nothing is lost in ours, and raw loky stands beside it."""
    for name, value in {"_ROUNDS": 1, "_CALLS": 5, "_PIPELINED": 50, "_INNOCENTS": 8, "_LAYERS": 1}.items():
        monkeypatch.setattr(pools, name, value)
    rows = pools._latencies()
    assert len(rows) == 6
    assert min(rows.values()) > 0
    pools._print_isolation()
    kept, shipped = pools._sessions().values()
    assert kept < shipped
    out = capsys.readouterr().out
    assert out.count("8/8; the task is told why: True") == 4
    assert "innocents on raw loky" in out


def test_spaces_print_every_figure(monkeypatch, capsys):
    """Drawing, the unit cube and definitions have a figure each, and nothing is imported before it is used."""
    monkeypatch.setattr(spaces, "_N", 20)
    bench.run(["spaces"])
    lines = capsys.readouterr().out.splitlines()[3:]
    figures = {line[:60].strip(): float(line[60:].split()[0].replace(",", "")) for line in lines}
    assert len(figures) == 13
    assert figures["of its rooms that `import dspex` loads"] == 0
    assert figures["drawn: 20 variables"] > figures["drawn: 20 variables, Optuna's RandomSampler"]


def test_routing_prints_every_policy_and_an_interval(monkeypatch, capsys):
    """A small run of the real benchmark: the learner is above the static default, and tables say by how much."""
    monkeypatch.setattr(routing, "_SEEDS", 1)
    monkeypatch.setattr(routing, "_CALLS", 120)
    monkeypatch.setattr(routing, "_TASKS", ("arithmetic",))
    bench.run(["routing"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("dspex ")
    assert "DSPy 3.4" in lines[0]
    rows = {line[:48].strip(): line[48:].split() for line in lines if line.startswith("  ")}
    objectives = rows["objective"]
    assert set(objectives) == {"balanced", "quality", "latency", "cost"}
    worth = {
        policy: dict(zip(objectives, map(float, cells), strict=True))
        for policy, cells in rows.items()
        if len(cells) == len(objectives) and cells[0].startswith("0.")
    }
    learned, first = worth["dspex, learning from nothing"], worth["static default, declared first"]
    best = worth["best fixed strategy, known only afterwards"]
    assert learned["balanced"] > first["balanced"]
    assert all(best[each] >= first[each] for each in objectives)
    assert rows["gain on static default, declared first"][1::2] == ["%"] * len(objectives)
    assert sum("all objectives +" in line for line in lines) >= 1


def test_reliability_prints_what_reached_the_upstream(monkeypatch, capsys):
    """A small run of the real benchmark: one call of ours gets through a half-open breaker."""
    monkeypatch.setattr(reliability, "_CALLS", 10)
    monkeypatch.setattr(reliability, "_REPEATS", 3)
    for name, value in (("_CALM_S", 0.5), ("_OVERLOAD_S", 1.0)):
        monkeypatch.setattr(overload, name, value)
    monkeypatch.setattr(hedging, "_CALLS", 12)
    bench.run(["reliability"])
    out = capsys.readouterr().out
    shares = [float(line.split()[-2]) for line in out.splitlines() if "good of what can be served" in line]
    assert len(shares) == 2
    assert all(0 < share < 240 for share in shares)  # twice as many arrive, and a queue is served afterwards
    (line,) = [each for each in out.splitlines() if "reached upstream: dspex" in each]
    assert line.split()[-1] == "1.00"
    assert out.count("closed breaker: dspex") == 1
    hedged = [float(line.split()[-2]) for line in out.splitlines() if "calls that cost another one" in line]
    assert len(hedged) == 3
    assert hedged[0] == 0
    assert all(0 <= share <= 100 / 12 * 2 for share in hedged)


def test_reliability_says_what_to_install(monkeypatch, capsys):
    """Without its peers the benchmark measures ours, and says how to get them."""
    monkeypatch.setattr(reliability, "_CALLS", 10)
    monkeypatch.setattr(reliability, "_REPEATS", 3)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(overload, "print_overload", lambda: None)
    monkeypatch.setattr(hedging, "print_hedging", lambda: None)
    bench.run(["reliability"])
    out = capsys.readouterr().out
    assert "not installed: pybreaker, circuitbreaker, purgatory, tenacity (pip install --group bench)" in out
    assert "closed breaker: dspex" in out


def test_a_soak_prints_how_it_went(monkeypatch, capsys):
    """A short soak over real sockets: upstreams fail, every call is answered all the same."""
    monkeypatch.setenv("DSPEX_SOAK_S", "2")
    bench.run(["soak"])
    lines = capsys.readouterr().out.splitlines()[3:]
    figures = {line[:60].strip(): float(line[60:].replace(",", "").split()[0]) for line in lines}
    assert figures["calls"] > 6 * 10
    assert figures["availability"] > 90
    assert figures["attempts per call"] >= 0.9
    assert figures["tasks of workers"] > 3
    assert figures["workers killed"] >= 1
    assert figures["tasks of workers lost or wrong"] == figures["processes left behind"] == 0


def test_what_takes_minutes_is_run_by_name_only(monkeypatch, capsys):
    """Without names every benchmark is run but the soak."""
    done = []
    monkeypatch.setattr(
        bench, "BENCHMARKS", {name: lambda name=name: done.append(name) for name in ("a", "soak")}
    )
    bench.run([])
    assert done == ["a"]


def test_studies_print_every_figure(monkeypatch, capsys):
    """What a study and a guard add to an evaluation, how often it errs, and how soon a long one is back."""
    for name, value in (("_EXAMPLES", 4), ("_ROUNDS", 1), ("_TRIALS", 20), ("_SIMULATIONS", 40)):
        monkeypatch.setattr(studies, name, value)
    bench.run(["studies"])
    lines = capsys.readouterr().out.splitlines()[3:]
    assert [line[-2:].strip() for line in lines] == ["ms", "ms", "ms", "us", "%", "%", "s"]
    assert all(0 <= float(line[60:-2]) <= 10 for line in lines[4:6])
    assert float(lines[-1][60:-2]) >= 0


def test_together_prints_turns_beside_each_alone(monkeypatch, capsys):
    """A small run of the real benchmark: three schedules, and none spends more calls than it has."""
    monkeypatch.setattr(together, "_SEEDS", 1)
    monkeypatch.setattr(together, "_CALLS", 250)
    monkeypatch.setattr(together, "_N_VAL", 16)
    bench.run(["together"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    rows = {line[:30].strip(): line[30:].split() for line in lines[2:]}
    schedules = [f"together, {name}" for name in ("sequential", "alternating", "parallel")]
    assert list(rows) == ["beacon", "simba", "bootstrap_rs", "simba over the space", *schedules]
    assert all(rows[name][3:] in (["0", "of", "1", "seeds"], ["1", "of", "1", "seeds"]) for name in schedules)
    assert all(16 <= int(rows[name][2]) <= 250 for name in schedules)


def test_joint_prints_a_line_a_seed_beside_mipro(monkeypatch, capsys):
    """A small run of the real benchmark: nothing found is above the best, and both say how many calls they made."""
    for name, value in (("_N_EACH", 2), ("_N_EXAMPLES", 60), ("_EFFORT", "light")):
        monkeypatch.setattr(joint, name, value)
    monkeypatch.setattr(joint, "processes", lambda: builtins)
    bench.run(["joint"], seeds=1)
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("  0 "))
    default, mipro, mipro_calls, *found = (float(cell.rstrip("*")) for cell in line.split()[1:])
    assert default < mipro
    assert mipro_calls > 60
    for best, score, calls in (found[:3], found[3:]):
        assert default < score <= best
        assert 60 < calls < 3000
    assert sum("within 1 % of the best in" in line for line in lines) == 2


class TestBuiltIn:
    """`dx.benchmark` really runs studies, and times them."""

    @pytest.fixture(autouse=True)
    def _tiny(self, monkeypatch):
        monkeypatch.setitem(builtin.SIZES, "small", builtin.Size(trials=3, n_examples=8, seeds=1))

    def test_a_slower_metric_is_a_longer_time(self):
        """Time is that of the study itself: each call of the metric adds what it takes."""
        now = [0.0]

        def timed(seconds):
            def metric(example, prediction, trace=None):
                now[0] += seconds
                return float(prediction.label == example.label)

            return dx.benchmark("small", optimizers=["tpe"], metric=metric, clock=lambda: now[0])["wall_s"]

        one, two = timed(1.0), timed(2.0)
        assert (one >= 3 * 8).all()
        assert (two == 2 * one).all()

    def test_random_search_is_the_baseline(self):
        """It comes first, and what the others gain is above it."""
        found = dx.benchmark("small", optimizers=["beacon"])
        assert list(found.index) == ["random", "beacon"]
        assert found["over_random"]["random"] == 0
        assert found["over_random"]["beacon"] == found["score"]["beacon"] - found["score"]["random"]
        assert (found["calls"] >= 8).all()

    def test_it_is_printed_too(self, capsys):
        """`dspex bench small` prints the same table."""
        bench.run(["small"])
        assert "over_random" in capsys.readouterr().out

    def test_unknown_names_are_refused(self):
        """A size that does not exist, and a name where a list is wanted."""
        with pytest.raises(UnknownNameError, match="did you mean 'small'"):
            dx.benchmark("smal")
        with pytest.raises(DataError, match="optimizers must be a list"):
            dx.benchmark("small", optimizers="tpe")


def test_nets_are_measured_wherever_they_are(capsys):
    """The script for GPUs, on processors and with small sizes: every part of it runs and prints its figure."""
    neural.measure("cpu", neural.SMALL)
    out = capsys.readouterr().out
    for part in (
        "plan: 2 workers for cpu: processors",
        "micro-batching: ",
        "language model: ",
        "they differ by ",
        "inverse of 100 rows: torch in the pool 'neural'",
        "too much memory: a worker of pool 'neural_bench' may hold 4096 MiB",
        "the worker stayed: True",
    ):
        assert part in out


def test_a_machine_without_a_gpu_is_told(monkeypatch, capsys):
    """Nothing is measured, and nothing fails."""
    monkeypatch.setattr(neural.gpus, "probe", list)
    bench.run(["gpu"])
    assert "this machine has no GPU that can be used: nothing is measured" in capsys.readouterr().out


def test_adapters_print_every_client_and_what_ours_is_worth(monkeypatch, capsys):
    """Each client is measured alone and with many in flight, and its throughput is set against ours."""
    monkeypatch.setattr(adapters, "_PEERS", ("httpx",))
    monkeypatch.setattr(adapters, "_ALONE", 2)
    monkeypatch.setattr(adapters, "_TOGETHER", 60)
    monkeypatch.setattr(adapters, "_ROUNDS", 1)
    monkeypatch.setattr(adapters, "_WAIT_S", 0.0)
    bench.run(["adapters"])
    printed = capsys.readouterr().out
    for client in ("dspex direct", "dspex structured", "dspy.Predict", "httpx"):
        assert f"50 in flight: {client}" in printed
    assert "dspex direct, so many times httpx" in printed
    assert "tokens of the prompt: dspex direct" in printed
