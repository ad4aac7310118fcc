"""A bound program keeps to its way through copies, files, streams and every DSPy optimizer."""

from __future__ import annotations

import asyncio
import copy
import inspect

import cloudpickle
import dspy
import pytest
from bindable_programs import DEMO, RUNS, WAY, Locked, Two, asked_by, asked_of, form_of, lm_of

from dspex import sandbox
from dspex.bridge import bound, prices
from dspex.bridge.binding import bind
from dspex.bridge.bound import Bound, Way, way_of
from dspex.errors import DefinitionError

TRIAGE = sandbox.task("triage")


@pytest.fixture(autouse=True)
def own_prices(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})


def bound_two(lm, **changes):
    return bind(Two(), {**WAY, "model": lm, **changes})


# ── copies ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda program: program.deepcopy(),
        lambda program: program.reset_copy(),
        lambda program: program.reset_copy().reset_copy().deepcopy(),
        lambda program: cloudpickle.loads(cloudpickle.dumps(program)),
        lambda program: bind(program, {}),
    ],
    ids=["copy.deepcopy", "deepcopy", "reset_copy", "several", "cloudpickle", "bound again"],
)
def test_every_copy_runs_the_same_way(copied):
    """Model, settings, adapter and attributes come along, and the copy remembers what it was bound to."""
    lm = lm_of()
    made = copied(bound_two(lm))
    lm = made.plan.predict.lm  # a pickled one has a model of its own
    answerer = lm._engine_spec.answerer
    assert made.answer.lm._engine_spec.answerer.name == "echo"
    made.answer.lm._engine_spec.answerer = answerer
    assert asked_by(made, lm) == RUNS
    assert (made.rounds, made.retriever.k) == (3, 9)
    assert made.dspex.values["plan.temperature"] == 0.9
    assert made.dspex.program is made


def test_what_was_bound_is_shown_by_name():
    """The repr says which module, model and adapter it is, not where they are in memory."""
    values = {
        "module": dspy.ChainOfThought,
        "model": lm_of(),
        "adapter": dspy.JSONAdapter(),
        "temperature": 0.2,
    }
    said = repr(bind(dspy.Predict("question -> answer"), values).dspex)
    assert "module=ChainOfThought, " in said
    assert f"model={lm_of().model!r}" in said
    assert "adapter=JSONAdapter" in said
    assert "temperature=0.2" in said


def test_a_reset_takes_demos_and_gives_the_bound_model_back():
    """DSPy's reset forgets what it may learn again, and not what was bound."""
    lm = lm_of()
    made = bind(dspy.Predict("question -> answer"), {"model": lm, "demos": [DEMO]})
    fresh = made.reset_copy()
    assert fresh.demos == []
    assert fresh.lm.model == lm.model


def test_a_bound_class_passes_for_the_one_it_is_of():
    """It is an instance, goes by the name, and shows the source that DSPy's optimizers show to models."""
    made = bound_two(lm_of())
    assert isinstance(made, Two)
    assert type(made).__name__ == "Two"
    assert inspect.getsource(type(made)) == inspect.getsource(Two)
    assert inspect.signature(type(made).forward) == inspect.signature(Two.forward)
    assert bound.bound_class(type(made)) is type(made)
    assert not hasattr(bound.bound_class(Locked), "aforward")


def test_a_class_of_the_users_keeps_its_own_copying():
    """Where a class says how it is copied, that is how."""

    class Own(dspy.Module):
        copied = 0

        def __init__(self):
            super().__init__()
            self.answer = dspy.Predict("question -> answer")

        def deepcopy(self):
            type(self).copied += 1
            return super().deepcopy()

    made = bind(Own(), {"adapter": "json"})
    again = made.deepcopy()
    assert type(made).copied == 1
    assert type(way_of(again).adapter) is dspy.JSONAdapter


def test_what_cannot_be_copied_does_not_part_a_program_from_its_way(tmp_path):
    """With a lock inside, copies still run, save and load the bound way."""
    lm = lm_of()
    made = bind(Locked(), {"rounds": 4, "adapter": "xml", "model": lm, "temperature": 0.3}).reset_copy()
    assert asked_by(made, lm) == [("xml", 0.3)]
    made.save(tmp_path / "p.json")
    other = bind(Locked(), {"adapter": "json", "rounds": 1})
    other.load(tmp_path / "p.json", allow_unsafe_lm_state=True)
    assert (other.rounds, isinstance(way_of(other).adapter, dspy.XMLAdapter)) == (4, True)


def test_what_json_cannot_hold_is_said_when_saving():
    """The name and the value, and what to do about it."""
    made = bind(Two(), {"retriever": object()})
    with pytest.raises(DefinitionError, match=r"retriever is bound to <object object.*cannot be written"):
        made.dump_state()


# ── asynchronously, in pieces, by calls ─────────────────────────────────────────────────────────


def test_it_runs_its_way_asynchronously_and_side_by_side():
    """Two programs that run at once in one loop do not get into each other's way."""
    first, second = lm_of("a"), lm_of("b")
    programs = [
        bind(Two(), {"adapter": "json", "model": first}),
        bind(Two(), {"adapter": "xml", "model": second}),
    ]

    async def all_of_them():
        return await asyncio.gather(*(each.acall(question="?") for each in programs))

    assert [each.answer for each in asyncio.run(all_of_them())] == ["a", "b"]
    assert {form_of(prompt) for prompt in asked_of(first)} == {"json"}
    assert {form_of(prompt) for prompt in asked_of(second)} == {"xml"}


@pytest.mark.parametrize("address", ["adapter", "answer.adapter"])
@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
def test_it_streams_its_way(adapter, address):
    """A listener reads the stream with the adapter that wrote it, though it runs outside of the program."""
    made = bind(Two(), {address: adapter, "model": lm_of("some words that come in pieces")})
    listener = dspy.streaming.StreamListener("answer")

    async def pieces():
        stream = dspy.streamify(made, stream_listeners=[listener])(question="?")
        return [each.chunk async for each in stream if isinstance(each, dspy.streaming.StreamResponse)]

    chunks = asyncio.run(pieces())
    assert "".join(chunks).strip('" ') == "some words that come in pieces"
    assert len(chunks) > 1


def test_the_compiled_adapters_stay_in_force():
    """A run that formats through compiled plans does so with the bound adapter too."""
    from dspex.bridge import program
    from dspex.bridge.compiled import adapters as compiled

    seen = []

    class Looking(dspy.Module):
        def forward(self, question):
            seen.append(type(dspy.settings.adapter))
            return dspy.Prediction()

    made = bind(Looking(), {"adapter": "json"})
    program.run(made, {"question": "?"}, lm_of())
    made(question="?")
    assert seen == [compiled.JSONAdapter, dspy.JSONAdapter]


def test_marks_are_quiet():
    """A module that was never bound has an empty way, and a bound class is marked."""
    assert way_of(Two()) == Way()
    assert issubclass(bound.bound_class(Two), Bound)


# ── DSPy's optimizers ───────────────────────────────────────────────────────────────────────────


def metric(example, prediction, trace=None, pred_name=None, pred_trace=None):
    if prediction is None:
        return 0.0
    return float(prediction.label == example.label)


QUIET = {"num_threads": 2}
FEW = {"metric": metric, "max_bootstrapped_demos": 1, "max_labeled_demos": 1}


def by_knn(student, train):
    vectors = dspy.Embedder(lambda texts: [[float(len(text))] for text in texts])
    return dspy.KNNFewShot(2, train, vectors, metric=metric, max_bootstrapped_demos=1).compile(student)


def by_copro(student, train):
    options = {**QUIET, "display_progress": False}
    return dspy.COPRO(metric=metric, breadth=2, depth=1).compile(student, trainset=train, eval_kwargs=options)


def by_gepa(student, train):
    gepa = dspy.GEPA(metric=metric, max_metric_calls=12, reflection_lm=sandbox.lm("sandbox/large"), **QUIET)
    return gepa.compile(student, trainset=train, valset=train)


# With as little as each takes.
OPTIMIZERS = {
    "LabeledFewShot": lambda student, train: dspy.LabeledFewShot(k=2).compile(student, trainset=train),
    "BootstrapFewShot": lambda student, train: dspy.BootstrapFewShot(**FEW).compile(student, trainset=train),
    "RandomSearch": lambda student, train: dspy.BootstrapFewShotWithRandomSearch(
        **FEW, **QUIET, num_candidate_programs=1
    ).compile(student, trainset=train),
    "Optuna": lambda student, train: dspy.teleprompt.BootstrapFewShotWithOptuna(
        **FEW, **QUIET, num_candidate_programs=2
    ).compile(student, trainset=train, valset=train, max_demos=1),
    "KNNFewShot": by_knn,
    "COPRO": by_copro,
    "MIPROv2": lambda student, train: dspy.MIPROv2(**FEW, **QUIET, auto=None, num_candidates=2).compile(
        student, trainset=train, valset=train, num_trials=2, minibatch=False
    ),
    "SIMBA": lambda student, train: dspy.SIMBA(
        metric=metric, bsize=4, num_candidates=2, max_steps=1, max_demos=1, **QUIET
    ).compile(student, trainset=train),
    "GEPA": by_gepa,
    "InferRules": lambda student, train: dspy.InferRules(
        **FEW, **QUIET, num_candidates=1, num_rules=1
    ).compile(student, trainset=train),
    "Ensemble": lambda student, train: dspy.Ensemble(reduce_fn=lambda outputs: outputs[0]).compile(
        [student, student.deepcopy()]
    ),
    "BetterTogether": lambda student, train: dspy.BetterTogether(
        metric=metric, p=dspy.BootstrapFewShot(**FEW)
    ).compile(student, trainset=train, valset=train, strategy="p"),
}


@pytest.mark.parametrize(
    ("name", "tied"),
    # BetterTogether takes only programs whose predictors have models.
    [(name, True) for name in OPTIMIZERS]
    + [(name, False) for name in OPTIMIZERS if name != "BetterTogether"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_every_dspy_optimizer_leaves_the_way_it_runs(name, tied, monkeypatch, tmp_path):
    """Compiled, the program still asks with its temperature, through its adapter, as its module."""
    monkeypatch.chdir(tmp_path)
    lm, asked = sandbox.lm("sandbox/large"), asked_of_the_sandbox(monkeypatch)
    signature = dspy.Signature(TRIAGE.signature, TRIAGE.instructions)
    way = {"module": dspy.ChainOfThought, "temperature": 0.35, "adapter": "json"}
    student = bind(dspy.Predict(signature), way | ({"model": lm} if tied else {}))
    with dspy.context(lm=lm):
        compiled = OPTIMIZERS[name](student, TRIAGE.train[:8])
        assert name in {"LabeledFewShot", "KNNFewShot", "Ensemble"} or 0.35 in {
            prompt.temperature for prompt in asked
        }
        asked.clear()
        prediction = compiled(message=TRIAGE.dev[0].message)
    assert {prompt.temperature for prompt in asked} == {0.35}
    assert {form_of(prompt) for prompt in asked} == {"json"}
    assert "reasoning" in prediction
    one = compiled.programs[0] if name == "Ensemble" else compiled
    assert one.dspex.values["temperature"] == 0.35


def asked_of_the_sandbox(monkeypatch):
    asked = []
    answer = sandbox.SimulatedModel.answer

    def keeping(self, prompt):
        asked.append(prompt)
        return answer(self, prompt)

    monkeypatch.setattr(sandbox.SimulatedModel, "answer", keeping)
    return asked


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_simba_compiles_a_program_of_several_temperatures(monkeypatch):
    """DSPy's SIMBA asks for a program's only model; settings that go along with calls leave it that."""
    lm, asked = lm_of(), []
    made = bind(Two(), {"plan.temperature": 0.9, "answer.temperature": 0.2})
    train = [DEMO] * 4
    with dspy.context(lm=lm):
        simba = dspy.SIMBA(metric=lambda example, prediction: 1.0, bsize=4, num_candidates=2, max_steps=1)
        compiled = simba.compile(made, trainset=train)
        asked = asked_by(compiled, lm)
    assert [temperature for _, temperature in asked] == [0.9, 0.2]
