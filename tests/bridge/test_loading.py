"""A file says how a bound program ran, to DSPy's own `load` and to ours."""

from __future__ import annotations

import json

import dspy
import pytest
from bindable_programs import DEMO, RUNS, WAY, Careful, Two, asked_by, lm_of

from dspex.bridge import loading, prices
from dspex.bridge.binding import bind
from dspex.bridge.bound import way_of
from dspex.errors import DataError, DefinitionError


@pytest.fixture(autouse=True)
def own_prices(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})


def bound_two(lm, **changes):
    return bind(Two(), {**WAY, "model": lm, **changes})


@pytest.mark.parametrize("name", ["p.json", "p.pkl"])
def test_dspys_own_load_restores_how_it_runs(tmp_path, name):
    """Whatever the program that loads was bound to before: the file says how it runs."""
    bound_two(lm_of()).save(tmp_path / name)
    for before in ({"adapter": "xml", "rounds": 7, "tone": "rude", "temperature": 1.0}, {"retriever.k": 1}):
        made = bind(Two(), before)
        made.load(tmp_path / name, allow_pickle=True, allow_unsafe_lm_state=True)
        (plan, answer), lm = made.predictors(), made.plan.predict.lm
        answer.lm._engine_spec.answerer = lm._engine_spec.answerer
        assert asked_by(made, lm) == RUNS
        assert (made.rounds, made.retriever.k, made.tone) == (3, 9, "kind")
        assert plan.demos == []
        assert asked_by(made.reset_copy(), lm) == RUNS


def test_settings_without_a_model_are_saved_too(tmp_path):
    """A temperature that was bound for whichever model is in force comes back."""
    bind(Two(), {"temperature": 0.25}).save(tmp_path / "p.json")
    lm, made = lm_of(), bind(Two(), {"top_p": 0.5})
    made.load(tmp_path / "p.json")
    with dspy.context(lm=lm):
        assert asked_by(made, lm) == [("chat", 0.25)] * 2


def test_load_makes_the_modules_anew(tmp_path):
    """A program with swapped modules is loaded onto the one it came from, demos and all."""
    demo = dspy.Example(question="q", reasoning="r", plan="p", answer="a")
    made = bound_two(lm_of(), module=dspy.ChainOfThought, demos=[demo], **{"answer.instructions": "Go."})
    made.save(tmp_path / "p.json")
    plain = Two()
    loaded = loading.load(plain, tmp_path / "p.json", allow_unsafe_lm_state=True)
    assert isinstance(loaded.answer, dspy.ChainOfThought)
    assert type(plain.answer) is dspy.Predict
    assert loaded.answer.predict.signature.instructions == "Go."
    assert loaded.answer.predict.demos[0]["reasoning"] == "r"
    lm = loaded.plan.predict.lm
    loaded.answer.predict.lm._engine_spec.answerer = lm._engine_spec.answerer
    assert asked_by(loaded, lm) == RUNS


def test_load_reads_what_an_unbound_program_saved(tmp_path):
    """A file of DSPy's without anything of ours is loaded as DSPy does."""
    made = dspy.Predict("question -> answer")
    made.demos = [DEMO]
    made.save(tmp_path / "p.json")
    loaded = loading.load(dspy.Predict("question -> answer"), tmp_path / "p.json")
    assert loaded.demos[0]["answer"] == "4"


def test_loading_onto_other_modules_is_refused(tmp_path):
    """The message says which part differs, and what loads such a file; nothing is changed."""
    bind(Two(), {"answer.module": dspy.ChainOfThought, "adapter": "json"}).save(tmp_path / "p.json")
    made = bind(Two(), {"adapter": "xml"})
    made.answer = dspy.ChainOfThought(made.answer.signature)
    with pytest.raises(DefinitionError, match=r"made of other modules: answer.module differs") as caught:
        made.load(tmp_path / "p.json")
    assert "Space.load(program, path)" in caught.value.hint
    assert isinstance(way_of(made).adapter, dspy.XMLAdapter)


def test_an_adapter_of_ones_own_is_saved_by_name(tmp_path):
    """With its plain options; a file never imports anything."""
    adapter = Careful(use_json_adapter_fallback=False)
    bind(Two(), {"adapter": adapter}).save(tmp_path / "p.json")
    state = json.loads((tmp_path / "p.json").read_text())
    assert state["dspex"]["adapter"]["options"]["use_json_adapter_fallback"] is False
    state["dspex"]["adapter"]["adapter"] = "dspy.adapters.json_adapter:JSONAdapter"
    (tmp_path / "p.json").write_text(json.dumps(state))
    loaded = way_of(loading.load(Two(), tmp_path / "p.json")).adapter
    assert (type(loaded), loaded.use_json_adapter_fallback) == (dspy.JSONAdapter, False)
    for name in ("antigravity:Adapter", "os:system"):
        state["dspex"]["adapter"]["adapter"] = name
        (tmp_path / "p.json").write_text(json.dumps(state))
        with pytest.raises(DefinitionError, match=f"saved with {name}, which is not there"):
            loading.load(Two(), tmp_path / "p.json")


def test_a_missing_file(tmp_path):
    """It is named."""
    with pytest.raises(DataError, match=r"cannot read .*nowhere.json: No such file"):
        loading.load(Two(), tmp_path / "nowhere.json")
