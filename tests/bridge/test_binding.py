"""A bound program really runs the given way, and the user's own stays as it is."""

from __future__ import annotations

import dspy
import pytest
from bindable_programs import DEMO, Locked, Nested, Two, asked_of, form_of, lm_of

from dspex.bridge import binding, prices
from dspex.bridge.binding import bind
from dspex.bridge.journal import Journal
from dspex.errors import UnknownNameError, VariableError

PROGRAMS = [
    lambda: dspy.Predict("question -> answer"),
    lambda: dspy.ChainOfThought("question -> answer"),
    Two,
]


@pytest.fixture(autouse=True)
def own_prices(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})


def state_of(made):
    parts = [
        (predictor.dump_state(json_mode=True), predictor.lm, list(predictor.demos), predictor.config)
        for predictor in made.predictors()
    ]
    kinds = [(name, type(each)) for name, each in made.named_sub_modules()]
    plain = {name: value for name, value in vars(made).items() if isinstance(value, (int, str, list))}
    return repr((parts, kinds, plain))


EVERYTHING = {
    "temperature": 0.9,
    "instructions": "Other.",
    "demos": [],
    "adapter": "json",
    "module": dspy.ChainOfThought,
}


# ── what it leaves alone ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", PROGRAMS)
def test_binding_leaves_the_original_alone(make):
    """Whatever is bound, and however the copy then runs, the program that was given stays as it is."""
    made, default, own = make(), lm_of(), lm_of("own", temperature=0.1)
    first = made.predictors()[0]
    first.demos, first.lm = [DEMO], own
    before = state_of(made)
    bound = bind(made, EVERYTHING, default_lm=default)
    assert bound is not made
    bound(question="?")
    for predictor in bound.predictors():
        predictor.demos.append(DEMO)
    assert state_of(made) == before
    assert "temperature" not in {name for name, value in default.kwargs.items() if value is not None}
    assert own.kwargs["temperature"] == 0.1


@pytest.mark.parametrize("make", PROGRAMS)
def test_an_empty_binding_changes_nothing(make):
    """Without values, the copy is as the program."""
    made = make()
    assert state_of(bind(made, {}, default_lm=lm_of())) == state_of(made)


def test_what_the_program_collects_is_not_shared():
    """A list that the copy fills while it runs is its own."""
    made = Two()
    bind(made, {"temperature": 0.5}, default_lm=lm_of())(question="?")
    assert made.seen == []


# ── models and their settings ───────────────────────────────────────────────────────────────────


def test_each_part_reaches_every_predictor():
    """An undotted name is for all predictors."""
    other = lm_of("other")
    for make in PROGRAMS:
        bound = bind(make(), {"model": other, "instructions": "Other.", "demos": [DEMO]})
        for predictor in bound.predictors():
            assert predictor.lm is other
            assert predictor.signature.instructions == "Other."
            assert predictor.demos == [DEMO]


def test_settings_sit_on_the_predictors_own_model():
    """Sampling settings go to a copy of the bound, the own or else the default model."""
    default, own = lm_of("default"), lm_of("own", temperature=0.1)
    made = Two()
    made.answer.lm = own
    bound = bind(made, {"temperature": 0.9, "max_tokens": 7}, default_lm=default)
    plan, answer = bound.predictors()
    assert (plan.lm.model, answer.lm.model) == ("echo/default", "echo/own")
    for lm in (plan.lm, answer.lm):
        assert (lm.kwargs["temperature"], lm.kwargs["max_tokens"]) == (0.9, 7)
    bound = bind(made, {"model": lm_of("new"), "top_p": 0.5}, default_lm=default)
    assert {(each.lm.model, each.lm.kwargs["top_p"]) for each in bound.predictors()} == {("echo/new", 0.5)}


def test_zero_is_a_setting():
    """A temperature of 0 is set, not skipped."""
    bound = bind(dspy.Predict("q -> a"), {"temperature": 0.0}, default_lm=lm_of(temperature=1.0))
    assert bound.lm.kwargs["temperature"] == 0.0


def test_a_shared_setting_leaves_one_model():
    """Optimizers ask a program for its only model: equal settings are one model, not one each."""
    bound = bind(Two(), {"temperature": 0.4}, default_lm=lm_of())
    assert bound.get_lm().kwargs["temperature"] == 0.4


def test_without_a_model_of_its_own_the_one_in_force_runs_that_way():
    """Settings then go along with each call, whichever model is asked."""
    lm = lm_of()
    bound = bind(Two(), {"plan.temperature": 0.9, "answer.temperature": 0.2, "answer.max_tokens": 9})
    assert [predictor.lm for predictor in bound.predictors()] == [None, None]
    with dspy.context(lm=lm):
        bound(question="?")
    plan, answer = asked_of(lm)
    assert (plan.temperature, answer.temperature) == (0.9, 0.2)
    assert answer.max_tokens == 9


def test_a_setting_of_the_calls_own_comes_first():
    """What a call asks for is more particular than what is bound."""
    lm = lm_of()
    bound = bind(dspy.Predict("question -> answer"), {"temperature": 0.9})
    with dspy.context(lm=lm):
        bound(question="?", config={"temperature": 0.1})
    bound(question="?", lm=lm_of("other", temperature=0.3))
    assert [prompt.temperature for prompt in asked_of(lm)] == [0.1]


def test_a_bound_setting_comes_before_the_predictors_config():
    """A temperature written into the predictor does not hide the bound one; the rest of its config stays."""
    lm = lm_of()
    bound = bind(
        dspy.Predict("question -> answer", temperature=0.3, max_tokens=5), {"temperature": 0.9}, default_lm=lm
    )
    bound(question="?")
    assert (asked_of(lm)[0].temperature, asked_of(lm)[0].max_tokens) == (0.9, 5)


# ── addresses ───────────────────────────────────────────────────────────────────────────────────


def test_the_more_particular_name_wins_in_any_order():
    """Shared, then by pattern, then of one part."""
    values = {"plan.temperature": 0.1, "*.temperature": 0.2, "temperature": 0.3, "answer.model": lm_of("a")}
    for order in (values, dict(reversed(values.items()))):
        bound = bind(Two(), order, default_lm=lm_of())
        assert [each.lm.kwargs["temperature"] for each in bound.predictors()] == [0.1, 0.2]
        assert [each.lm.model for each in bound.predictors()] == ["echo/echo", "echo/a"]


def test_every_place_has_an_address():
    """Submodules, lists, dicts and objects that are no modules."""
    bound = bind(
        Nested(),
        {
            "inner.plan.predict.temperature": 0.1,
            "tools[1].temperature": 0.2,
            "routes['de'].temperature": 0.3,
            "fixed[0].temperature": 0.4,
            "inner.rounds": 5,
            "inner.retriever.k": 9,
        },
        default_lm=lm_of(),
    )
    found = {name: each.lm for name, each in bound.named_predictors()}
    assert {name: lm.kwargs["temperature"] for name, lm in found.items() if lm is not None} == {
        "inner.plan.predict": 0.1,
        "tools[1]": 0.2,
        "routes['de'].predict": 0.3,
        "fixed[0]": 0.4,
    }
    assert (bound.inner.rounds, bound.inner.retriever.k) == (5, 9)


def test_attributes_of_other_objects_are_set_on_copies():
    """A retriever's number is set, and the user's own retriever keeps its."""
    made = Two()
    assert bind(made, {"retriever.k": 9}).retriever.k == 9
    assert made.retriever.k == 3


def test_attributes_change_how_the_program_runs():
    """An attribute of the program's own takes effect when it runs."""
    for rounds, calls in ((2, 2), (4, 4)):
        lm = lm_of()
        bind(Two(), {"rounds": rounds, "model": lm})(question="?")
        assert len(asked_of(lm)) == calls


def test_a_compiled_part_stays_frozen():
    """What DSPy leaves out of a program's parameters is not bound either."""
    made = Two()
    made.answer._compiled = True
    bound = bind(made, {"temperature": 0.3}, default_lm=lm_of())
    assert bound.answer.lm is None
    with pytest.raises(UnknownNameError):
        bind(made, {"answer.temperature": 0.3})


# ── demos and instructions ──────────────────────────────────────────────────────────────────────


class Last:
    """Picks the last examples."""

    def pick(self, pool):
        return pool[-1:]


@pytest.mark.parametrize(
    ("value", "expected"), [(2, ["a", "b"]), (0, []), (Last(), ["c"]), ([DEMO], ["4"]), ((), [])]
)
def test_demos_are_a_number_a_list_or_a_choice(value, expected):
    """A number counts from the front of the pool; something with `pick` chooses from it."""
    pool = [dspy.Example(question="q", answer=letter) for letter in "abc"]
    bound = bind(dspy.Predict("question -> answer"), {"demos": value}, examples=pool)
    assert [demo.answer for demo in bound.demos] == expected


def test_no_demos_is_not_the_same_as_leaving_them():
    """An empty list of demos takes them away; without the variable they stay."""
    made = dspy.Predict("question -> answer")
    made.demos = [DEMO]
    assert bind(made, {"demos": []}).demos == []
    assert bind(made, {"temperature": 1.0}).demos == [DEMO]


# ── adapters ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("adapter", "form"),
    [
        ("chat", "chat"),
        ("json", "json"),
        ("xml", "xml"),
        (dspy.JSONAdapter(), "json"),
        (dspy.XMLAdapter, "xml"),
    ],
)
def test_the_whole_program_runs_under_its_adapter(adapter, form):
    """Every call is written by it, and nothing outside of the program's calls is."""
    lm = lm_of()
    bound = bind(Two(), {"adapter": adapter, "model": lm})
    with dspy.context(adapter=dspy.XMLAdapter() if form != "xml" else None):
        assert bound(question="?").answer == "echo"
        assert not isinstance(dspy.settings.adapter, dspy.JSONAdapter)
    assert [form_of(prompt) for prompt in asked_of(lm)] == [form, form]


def test_each_part_may_have_an_adapter_of_its_own():
    """The part's comes before the program's, and ends with the part."""
    lm = lm_of()
    bind(Two(), {"plan.adapter": "json", "model": lm})(question="?")
    bind(Two(), {"plan.adapter": "json", "adapter": "xml", "model": lm})(question="?")
    assert [form_of(prompt) for prompt in asked_of(lm)] == ["json", "chat", "json", "xml"]


# ── what is refused ─────────────────────────────────────────────────────────────────────────────


def test_every_unknown_name_is_told_at_once():
    """With what was probably meant, and what there is."""
    with pytest.raises(UnknownNameError) as caught:
        bind(Two(), {"pla.temperature": 1.0, "answer.tempo": 1.0, "roundz": 1, "rounds": 3})
    text = str(caught.value)
    assert text.startswith("Two has none of roundz, pla.temperature, answer.tempo; it can vary adapter, ")
    assert "retriever.k" in text
    assert "did you mean 'plan.temperature'?" in text
    assert "did you mean 'rounds'?" in text


def broken(signature):
    raise ValueError("no such tool")


@pytest.mark.parametrize(
    ("values", "messages"),
    [
        (
            {"adapter": "yaml", "model": "small", "demos": "all", "instructions": 3, "nothing": 1},
            [
                "there is no nothing",
                "unknown adapter 'yaml'; known: chat, json, xml",
                "plan.predict needs a dspy.LM as its model, got 'small'",
                "demos must be a list of examples, or how many, got 'all'",
                "instructions must be a text, got 3",
            ],
        ),
        ({"demos": 2}, ["2 demos need examples to take them from, got none"]),
        ({"plan.module": broken}, ["plan cannot be a broken: ValueError: no such tool"]),
        ({"plan.module": dict}, ["plan cannot be a dict: "]),
        ({"plan.module": lambda signature: 3}, ["it must make a dspy.Module, made 3"]),
        ({"adapter": 3}, ["an adapter is a dspy.Adapter or one of chat, json, xml, got 3"]),
        ({"plan": dspy.Predict("q -> a")}, ["plan is a module; plan.module says which one"]),
    ],
)
def test_every_value_that_does_not_fit_is_told_at_once(values, messages):
    """Nothing is bound then."""
    made = Two()
    before = state_of(made)
    with pytest.raises(VariableError) as caught:
        binding.bind_in_place(made, values, Journal())
    for message in messages:
        assert message in str(caught.value)
    assert state_of(made) == before


def test_what_cannot_be_copied_is_not_written_to():
    """A client that the copy has to share keeps its settings; the rest can be bound."""
    made = Locked()
    with pytest.raises(VariableError, match="client cannot be copied"):
        bind(made, {"client.retries": 9})
    bound = bind(made, {"rounds": 2, "temperature": 0.1}, default_lm=lm_of())
    assert bound.lock is made.lock
    assert (bound.rounds, made.rounds, made.client.retries) == (2, 1, 3)


def test_check_knows_what_bind_knows():
    """Names are looked up without binding anything."""
    binding.check(Two(), ["temperature", "*.temperature", "plan.module", "module", "rounds", "retriever.k"])
    with pytest.raises(UnknownNameError, match="none of x, tools"):
        binding.check(Two(), ["x", "tools[0].temperature", "adapter"])


# ── in place ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", PROGRAMS)
def test_a_program_is_bound_in_place_and_exactly_restored(make):
    """The very object runs the new way, also as another module, until the journal takes it back."""
    made, lm = make(), lm_of()
    identity, inside, before = made.__dict__, dict(vars(made)), state_of(made)
    journal = Journal()
    binding.bind_in_place(made, {**EVERYTHING, "model": lm}, journal)
    made(question="?")
    assert {form_of(prompt) for prompt in asked_of(lm)} == {"json"}
    assert {prompt.temperature for prompt in asked_of(lm)} == {0.9}
    journal.undo()
    made.history.clear()  # that it has run stays known to it
    if hasattr(made, "seen"):
        made.seen.clear()
    assert state_of(made) == before
    assert made.__dict__ is identity
    assert vars(made) == inside
