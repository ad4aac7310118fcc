"""The public calls, joined: execute, aexecute, explain, rate, history, route, configure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
from enum import Enum

import dspy
import pytest

import dspex as dx
from dspex import session
from dspex.errors import DefinitionError, ExhaustedError, UnknownNameError
from dspex.pools import named

TRIAGE = dx.sandbox.task("triage")
SIGNATURE = dx.signature(TRIAGE.signature, TRIAGE.instructions, name="Triage")
MESSAGE = TRIAGE.dev[0].message


@pytest.fixture
def users():
    yield dx.pools.define("users", dx.pools.PoolSpec(workers=1, profile="thread"))
    dx.pools.close("users")
    del named._specs["users"]


@pytest.mark.usefixtures("runtime")
class TestExecute:
    """One call: the answer, the decision behind it, and one row learned."""

    @pytest.mark.parametrize(
        "task",
        [SIGNATURE, TRIAGE.signature, SIGNATURE.to_dspy(), dspy.ChainOfThought(SIGNATURE.to_dspy())],
        ids=["ours", "spec", "dspy class", "dspy module"],
    )
    def test_runs_whatever_says_what_to_do(self, task):
        """A signature of any kind and a module are answered, with a typed label."""
        result = dx.execute(task, message=MESSAGE)
        assert result.label in {"billing", "refund", "shipping", "technical", "account", "escalation"}
        assert result["label"] == result.label == dict(result)["label"]

    def test_shows_answer_decision_and_trace(self):
        """The repr holds the answer, that it is simulated, and all six steps."""
        text = repr(dx.execute(SIGNATURE, message=MESSAGE))
        assert "label=" in text
        assert "simulated" in text
        for step in ("analyze", "select", "distribute", "monitor", "adapt", "fall_back"):
            assert step in text

    def test_decision_holds_every_alternative(self):
        """Three models times two modules by each adapter that takes them, the best first, probabilities that add up."""
        decision = dx.execute(SIGNATURE, message=MESSAGE).decision
        assert len(decision.alternatives) == 3 * (2 + 2 + 1)
        utilities = [each.utility for each in decision.alternatives]
        assert utilities == sorted(utilities, reverse=True)
        assert sum(each.propensity for each in decision.alternatives) == pytest.approx(1.0)

    def test_explain_says_what_execute_would_do(self):
        """Without exploration the explained strategy is the one that runs."""
        explained = dx.explain(SIGNATURE, message=MESSAGE)
        assert dx.execute(SIGNATURE, message=MESSAGE, explore=False).decision.strategy == explained.strategy
        assert len(dx.history()) == 1

    def test_a_pin_decides(self):
        """The way that was asked for is the way it ran."""
        strategy = dx.Strategy("sandbox/large", "ChainOfThought")
        result = dx.execute(SIGNATURE, message=MESSAGE, pin=strategy)
        assert result.decision.strategy == strategy
        assert result.reasoning

    def test_a_sessions_defaults_hold(self, users):
        """A session's owner gets the model, module and temperature they want, and the history says who it was."""
        ann = users.session(
            "ann", defaults={"model": "sandbox/large", "module": "ChainOfThought", "temperature": 0.5}
        )
        result = dx.execute(SIGNATURE, message=MESSAGE, session=ann)
        assert result.decision.strategy == dx.Strategy("sandbox/large", "ChainOfThought")
        assert result.decision.configuration == {
            "model": "sandbox/large",
            "module": "ChainOfThought",
            "temperature": 0.5,
        }
        assert "session ann" in repr(result)
        asyncio.run(dx.aexecute(SIGNATURE, message=MESSAGE, session="ann"))
        dx.execute(SIGNATURE, message=MESSAGE)
        assert list(dx.history()["session"].fillna("")) == ["", "ann", "ann"]
        assert dx.explain(SIGNATURE, message=MESSAGE, session="ann").strategy.model == "sandbox/large"

    def test_a_sessions_defaults_may_change(self, users):
        """What a user wants is read at each call; a session that is used does not expire."""
        ann = users.session("ann", defaults={"model": "sandbox/large"})
        ann.used_at -= 1000
        ann.defaults["model"] = "sandbox/small"
        assert dx.execute(SIGNATURE, message=MESSAGE, session=ann).decision.strategy.model == "sandbox/small"
        assert ann.stats.idle_s < 1000

    def test_what_a_call_says_overrides_its_session(self, users):
        """A pin and a registry's values win; what they say nothing of is the session's."""
        ann = users.session(
            "ann", defaults={"model": "sandbox/large", "module": "ChainOfThought", "temperature": 0.5}
        )
        pin = dx.Strategy("sandbox/small", "Predict")
        pinned = dx.execute(SIGNATURE, message=MESSAGE, session=ann, pin=pin).decision
        assert (pinned.strategy, pinned.configuration) == (pin, {"temperature": 0.5})
        registry = dx.Registry(
            dx.Space(module=dx.Module(["Predict"]), temperature=dx.Float(0.0, 0.2, default=0.1))
        )
        for program in (SIGNATURE, dspy.Predict(SIGNATURE.to_dspy())):
            both = dx.execute(program, message=MESSAGE, session=ann, space=registry).decision
            assert both.strategy == dx.Strategy("sandbox/large", "Predict")
            assert both.configuration == {"model": "sandbox/large", "module": "Predict", "temperature": 0.1}

    def test_a_sessions_defaults_stay_with_a_module_of_the_registry(self, users):
        """The program that a registry's module makes has the session's settings too."""
        seen = []

        class Watching(dspy.Predict):
            def forward(self, **kwargs):
                seen.append(kwargs["config"])
                return super().forward(**kwargs)

        ann = users.session("ann", defaults={"temperature": 0.5})
        registry = dx.Registry(dx.Space(module=dx.Module({"Watching": Watching})))
        dx.execute(SIGNATURE, message=MESSAGE, session=ann, space=registry)
        assert seen == [{"temperature": 0.5}]

    def test_a_session_that_does_not_fit_says_so(self, users):
        """Names that no program has, models and sessions that do not exist, are refused before anything runs."""
        users.session("ann", defaults={"temprature": 1.0})
        with pytest.raises(DefinitionError, match="temperature"):
            dx.execute(SIGNATURE, message=MESSAGE, session="ann")
        with pytest.raises(UnknownNameError, match="did you mean 'ann'"):
            dx.execute(SIGNATURE, message=MESSAGE, session="anne")
        assert dx.history().empty

    def test_a_metric_scores_a_result_as_it_scores_a_prediction(self):
        """What an optimizer is given rates a live answer too."""
        strategy = dx.Strategy("sandbox/large", "ChainOfThought")
        for example in TRIAGE.dev[:5]:
            result = dx.execute(SIGNATURE, message=example.message, pin=strategy)
            assert dx.metrics.exact_match(example, result) == (result.label == example.label)
            assert dx.metrics.token_f1(example, result) == float(result.label == example.label)

    def test_a_plain_text_field_takes_any_value(self):
        """As in DSPy, a list becomes numbered passages; a typed field is checked before anything runs."""
        assert dx.execute("passages, question -> answer", passages=["a", "b"], question="?").answer
        with pytest.raises(DefinitionError, match="input field 'n': expected int, got '3'"):
            dx.execute("n: int -> answer", n="3")

    def test_an_answer_out_of_bounds_is_a_failed_attempt(self):
        """A constraint on an output is kept: what breaks it falls back, and the error says what it was."""
        task = dx.signature("question -> answer: int <= 1")
        with pytest.raises(ExhaustedError, match=r"output field 'answer': expected int <= 1, got \d+"):
            dx.execute(
                task,
                question="Tom has 3 apples and buys 4 more. How many apples does Tom have now?",
                adapter="bridged",
            )
        assert not dx.history()["ok"].any()

    def test_ratings_teach(self):
        """After sixty rated calls the strategy that is always right is chosen almost always."""
        good = dx.Strategy("sandbox/medium", "ChainOfThought")
        for example in TRIAGE.train[:60]:
            for strategy in (good, dx.Strategy("sandbox/large", "Predict")):
                result = dx.execute(SIGNATURE, message=example.message, pin=strategy)
                result.rate(1.0 if strategy == good else 0.0)
        decision = dx.explain(SIGNATURE, message=MESSAGE, adapter="bridged")
        assert decision.strategy == good
        best = dx.explain(SIGNATURE, message=MESSAGE).strategy
        assert (best.model, best.module) == (good.model, good.module)
        assert decision.alternatives[0].quality.mean > 0.8

    def test_history_is_a_row_an_attempt(self):
        """Newest first, with model, module, cost and the latest rating."""
        dx.execute(SIGNATURE, message=MESSAGE).rate(0.0).rate(1.0)
        dx.execute(SIGNATURE, message=MESSAGE)
        frame = dx.history()
        assert len(frame) == 2
        assert list(frame["quality"].fillna(-1)) == [-1, 1.0]
        assert (frame["cost_usd"] > 0).all()
        assert len(dx.history(1)) == 1

    def test_a_broken_model_falls_back(self):
        """When a model is down the answer comes from another one, and the log holds both attempts."""
        down = dx.sandbox.lm("small", faults=dx.sandbox.Faults(outage=1.0))
        dx.configure([down, "sandbox/large"], modules=["Predict"], store="memory", exploration=1.0)
        for _ in range(20):
            result = dx.execute(SIGNATURE, message=MESSAGE)
            if result.decision.role == "fallback":
                break
        assert result.decision.strategy.model == "sandbox/large"
        assert "sandbox/small · Predict" in result.trace[-1].detail
        attempts = dx.history(2)
        assert list(attempts["role"]) == ["fallback", "policy"]
        assert list(attempts["ok"]) == [True, False]
        assert attempts["parent_id"].iloc[0] == attempts["id"].iloc[1]

    def test_when_everything_is_down_the_error_names_each_reason(self):
        """No made-up answer: an error with the attempts' own words."""
        down = dx.sandbox.lm("small", faults=dx.sandbox.Faults(outage=1.0))
        dx.configure([down], store="memory")
        with pytest.raises(ExhaustedError, match="every attempt at Triage failed: sandbox/small"):
            dx.execute(SIGNATURE, message=MESSAGE)

    def test_a_bug_in_a_program_is_the_programs(self):
        """An error in the user's own code is raised as it is."""

        class Broken(dspy.Module):
            def __init__(self):
                super().__init__()
                self.label = dspy.Predict(SIGNATURE.to_dspy())

            def forward(self, message):
                return self.label(message=message).no_such_field

        with pytest.raises(AttributeError, match="no_such_field"):
            dx.execute(Broken(), message=MESSAGE)

    def test_an_optimized_program_keeps_its_model(self):
        """Calling the result of a study runs the model that the study found."""
        program = dspy.Predict(SIGNATURE.to_dspy())
        program.set_lm(dx.lm("sandbox/large").copy(temperature=0.2))
        result = dx.execute(program, message=MESSAGE)
        assert str(result.decision.strategy) == "sandbox/large · Predict"

    def test_a_tuned_model_stays_with_its_program(self):
        """Running an optimized program does not change what that model's name means elsewhere."""
        dx.configure(["sandbox/small"], store="memory")
        program = dspy.Predict(SIGNATURE.to_dspy())
        program.set_lm(dx.sandbox.lm("large", temperature=0.2))
        dx.execute(program, message=MESSAGE)
        assert dx.lm("sandbox/large").kwargs.get("temperature") is None

    def test_a_type_defined_anew_is_the_one_that_is_used(self):
        """As a notebook cell that is run again: same name, same spec, other class."""
        spec = "question -> answer: Kind"
        strategy = dx.Strategy("sandbox/small", "Predict")
        answers = []
        for base in (int, float):
            kind = Enum("Kind", {"ONE": base(1)})
            task = dx.signature(spec, "Answer.", types={"Kind": kind})
            session.current().tasks.program(task, strategy.module)
            answers.append(session.current().tasks.program(task, strategy.module).signature)
        assert (
            answers[0].output_fields["answer"].annotation is not answers[1].output_fields["answer"].annotation
        )

    def test_many_at_once_are_all_answered(self):
        """Twenty awaited calls are answered and counted."""

        async def all_of_them():
            return await asyncio.gather(
                *(dx.aexecute(SIGNATURE, message=example.message) for example in TRIAGE.dev[:20])
            )

        results = asyncio.run(all_of_them())
        assert len({result.execution_id for result in results}) == 20
        assert len(dx.history()) == 20

    def test_a_field_called_like_an_option_goes_into_the_mapping(self):
        """`inputs` takes what keywords cannot."""
        task = dx.signature("pin, explore -> answer")
        assert dx.execute(task, {"pin": "1234", "explore": "yes"}).answer

    @pytest.mark.parametrize(
        ("task", "inputs", "message"),
        [
            ("message -> label", {}, r"needs the input\(s\) message; got none"),
            ("message -> label", {"message": "a", "mesage": "b"}, "did you mean 'message'"),
            ("message -> label: strng", {"message": "a"}, "did you mean 'str'"),
            (42, {"message": "a"}, "a signature is a spec"),
        ],
    )
    def test_bad_input_is_an_error_before_anything_runs(self, task, inputs, message):
        """What is wrong is said, and nothing is logged."""
        with pytest.raises(DefinitionError, match=message):
            dx.execute(task, inputs)
        assert dx.history().empty

    def test_a_missing_field_of_an_answer_names_the_nearest(self):
        """A typo behind the dot is an AttributeError that helps."""
        result = dx.execute(SIGNATURE, message=MESSAGE)
        with pytest.raises(AttributeError, match="did you mean 'label'"):
            _ = result.lable
        with pytest.raises(UnknownNameError, match="did you mean 'label'"):
            _ = result["lable"]


@pytest.mark.usefixtures("runtime")
class TestConfigure:
    """Each option does what it says, and a wrong one changes nothing."""

    def test_modules_and_models_are_the_arms(self):
        """Strategies are exactly the configured models times modules, by each adapter that takes them."""
        dx.configure(["sandbox/small", "sandbox/large"], modules=["ChainOfThought"], store="memory")
        arms = {str(each.strategy) for each in dx.explain(SIGNATURE, message=MESSAGE).alternatives}
        ways = {"ChainOfThought", "ChainOfThought · structured"}
        assert arms == {f"sandbox/{model} · {way}" for model in ("small", "large") for way in ways}

    def test_the_objective_changes_the_choice(self):
        """With nothing learned, prices and latencies make cheap and fast models first under "cost"."""
        dx.configure(dx.sandbox.MODELS, store="memory", objective="cost")
        assert dx.explain(SIGNATURE, message=MESSAGE).strategy.model == "sandbox/small"
        dx.configure(dx.sandbox.MODELS, store="memory", objective=dx.Objective(1.0, 0.0, 0.0))
        found = dx.explain(SIGNATURE, message=MESSAGE).alternatives
        by_adapter = {each.strategy.adapter: each.utility for each in found}
        assert len({each.utility for each in found}) == len(by_adapter) == 3
        assert max(by_adapter, key=by_adapter.get) == "structured"  # it suits a choice of words

    def test_a_price_is_believed(self):
        """A declared price wins over the table."""
        dx.configure(["sandbox/small"], store="memory", prices={"sandbox/small": dx.Price(100.0, 100.0)})
        expected = dx.explain(SIGNATURE, message=MESSAGE).alternatives[0].cost_usd.mean
        assert expected > 0.01
        dx.configure(["sandbox/small"], store="memory", prices={"sandbox/small": dx.sandbox.price("small")})

    def test_exploration_spreads_the_choices(self):
        """With exploration 1 every strategy has the same chance; with 0 some have none."""
        dx.configure(dx.sandbox.MODELS, store="memory", exploration=1.0)
        chances = {
            round(each.propensity, 6) for each in dx.execute(SIGNATURE, message=MESSAGE).decision.alternatives
        }
        assert chances == {round(1 / 15, 6)}

    def test_workers_bound_what_is_in_flight(self):
        """The pool has as many threads as were asked for."""
        assert dx.configure(["sandbox/small"], store="memory", workers=3).pool.workers == 3

    def test_the_seed_repeats_the_choices(self):
        """The same seed explores the same way."""

        def choices(seed: int) -> list[str]:
            dx.configure(dx.sandbox.MODELS, store="memory", seed=seed, exploration=0.5)
            return [
                str(dx.execute(SIGNATURE, message=each.message).decision.strategy) for each in TRIAGE.dev[:15]
            ]

        assert choices(1) == choices(1)
        assert choices(1) != choices(2)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"models": []}, "must name at least one model"),
            ({"models": ["sandbox/smal"]}, "did you mean 'sandbox/small'"),
            ({"models": ["gpt-4o-mini"]}, "a model is written provider/name"),
            ({"models": [42]}, "a model is a name or a dspy.LM, got 42"),
            (
                {"models": [dx.sandbox.lm("small"), dx.sandbox.lm("small", temperature=0.1)]},
                "models must differ by name, sandbox/small is there twice",
            ),
            ({"modules": []}, "must name at least one module"),
            ({"modules": ["ChainOfThougt"]}, "did you mean 'ChainOfThought'"),
            ({"objective": "speed"}, "unknown objective 'speed'"),
            ({"pool": "general"}, "unknown pool 'general'; known: inline"),
            ({"exploration": 3.0}, "exploration is a probability"),
            ({"store": "nosuch://host/name"}, "cannot open the store nosuch://host/name"),
            ({"workers": 0}, "workers must be"),
        ],
    )
    def test_a_wrong_option_is_an_error_and_the_runtime_stays(self, runtime, options, message):
        """The rule and the values are said, and the runtime before goes on."""
        given = {"models": ["sandbox/small"], "store": "memory", **options}
        with pytest.raises(dx.DspexError, match=message):
            dx.configure(**given)
        assert session.current() is runtime

    def test_nothing_configured_is_the_sandbox_said_aloud(self, caplog):
        """Without a model the sandbox answers, and a warning says that it is simulated."""
        with caplog.at_level(logging.WARNING, logger="dspex"):
            made = dx.configure(store="memory")
        assert made.models == dx.sandbox.MODELS
        assert "simulated" in caplog.text
        assert "(simulated)" in repr(made)

    def test_a_real_model_is_not_called_simulated(self):
        """Naming a provider's model makes a dspy.LM of it, and nothing is called yet."""
        made = dx.configure(["openai/gpt-4o-mini"], store="memory")
        assert "simulated" not in repr(made)
        assert isinstance(dx.lm("openai/gpt-4o-mini"), dspy.LM)


def test_a_new_process_knows_what_the_last_one_learned(tmp_path):
    """Executions and ratings are replayed: the first choice of a new process is the learned one."""
    store = str(tmp_path / "learned.db")
    dx.configure(dx.sandbox.MODELS, store=store)
    good = dx.Strategy("sandbox/medium", "ChainOfThought")
    for example in TRIAGE.train[:40]:
        for strategy in (
            good,
            dx.Strategy("sandbox/small", "Predict"),
            dx.Strategy("sandbox/large", "Predict"),
        ):
            with contextlib.suppress(ExhaustedError):  # a pinned strategy may fail, and is not replaced
                dx.execute(SIGNATURE, message=example.message, pin=strategy).rate(float(strategy == good))
    believed = dx.explain(SIGNATURE, message=MESSAGE)
    assert (believed.strategy.model, believed.strategy.module) == (good.model, good.module)
    executed = len(dx.history())
    session.current().close()
    script = f"""
import dspex as dx
task = dx.sandbox.task("triage")
dx.configure(dx.sandbox.MODELS, store={store!r})
triage = dx.signature(task.signature, task.instructions, name="Triage")
decision = dx.explain(triage, message=task.dev[0].message)
print(decision.strategy, f"{{decision.alternatives[0].utility:.9f}}", len(dx.history()))
"""
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert said == f"{believed.strategy} {believed.alternatives[0].utility:.9f} {executed}"
