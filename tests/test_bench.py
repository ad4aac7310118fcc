"""Benchmarks print figures beside named peers; the figures themselves are recorded, not tested."""

from __future__ import annotations

import pytest

from dspex import bench
from dspex.bench import adapters, definitions, reliability, routing, scoring, spaces, studies
from dspex.bench.timing import medians_us
from dspex.errors import UnknownNameError


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
    """A small run of the real benchmark: the learner is above the static default, and the table says by how much."""
    monkeypatch.setattr(routing, "_SEEDS", 1)
    monkeypatch.setattr(routing, "_CALLS", 120)
    monkeypatch.setattr(routing, "_TASKS", ("arithmetic",))
    bench.run(["routing"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("dspex ")
    assert "DSPy 3.4" in lines[0]
    worth = {
        line[:48].strip(): float(line[48:]) for line in lines if line.startswith("  ") and line[48:50] == "0."
    }
    assert worth["dspex, learning from nothing"] > worth["static default"]
    assert worth["best fixed strategy, known only afterwards"] >= worth["static default"]
    assert "dspex against static default" in lines[-2]


def test_reliability_prints_what_reached_the_upstream(monkeypatch, capsys):
    """A small run of the real benchmark: one call of ours gets through a half-open breaker."""
    monkeypatch.setattr(reliability, "_CALLS", 10)
    monkeypatch.setattr(reliability, "_REPEATS", 3)
    bench.run(["reliability"])
    out = capsys.readouterr().out
    (line,) = [each for each in out.splitlines() if "reached upstream: dspex" in each]
    assert line.split()[-1] == "1.00"
    assert out.count("closed breaker: dspex") == 1


def test_reliability_says_what_to_install(monkeypatch, capsys):
    """Without its peers the benchmark measures ours, and says how to get them."""
    monkeypatch.setattr(reliability, "_CALLS", 10)
    monkeypatch.setattr(reliability, "_REPEATS", 3)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
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


def test_what_takes_minutes_is_run_by_name_only(monkeypatch, capsys):
    """Without names every benchmark is run but the soak."""
    done = []
    monkeypatch.setattr(
        bench, "BENCHMARKS", {name: lambda name=name: done.append(name) for name in ("a", "soak")}
    )
    bench.run([])
    assert done == ["a"]


def test_studies_print_every_figure(monkeypatch, capsys):
    """What a study adds to an evaluation, and how soon a long one is back."""
    for name, value in (("_EXAMPLES", 4), ("_ROUNDS", 1), ("_TRIALS", 20)):
        monkeypatch.setattr(studies, name, value)
    bench.run(["studies"])
    lines = capsys.readouterr().out.splitlines()[3:]
    assert [line[-2:].strip() for line in lines] == ["ms", "ms", "ms", "s"]
    assert float(lines[-1][60:-2]) >= 0


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
