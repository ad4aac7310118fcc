import enum
import random
from typing import Literal

import optuna
import pydantic
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from dspex.errors import VariableError
from dspex.variables import exchange
from dspex.variables.base import Bool, Choice, Embedding, Float, Int
from dspex.variables.space import Space


@pytest.fixture
def space():
    return Space(
        rate=Float(1e-4, 1, log=True),
        share=Float(0, 1, step=0.1),
        size=Int(1, 64, log=True),
        odd=Int(1, 10, step=4),
        flag=Bool(default=True),
        module=Choice(["Predict", "BestOfN"]),
        n=Int(2, 5).given(module="BestOfN"),
        direction=Embedding(6, rank=2).given(module="BestOfN"),
    )


def test_optunas_distributions(space):
    """Each variable is a distribution; an array is as many as it has columns."""
    assert space.to_optuna() == {
        "rate": FloatDistribution(1e-4, 1, log=True),
        "share": IntDistribution(0, 10),
        "size": IntDistribution(1, 64, log=True),
        "odd": IntDistribution(1, 9, step=4),
        "flag": CategoricalDistribution([False, True]),
        "module": CategoricalDistribution(["Predict", "BestOfN"]),
        "n": IntDistribution(2, 5),
        "direction[0]": FloatDistribution(0, 1),
        "direction[1]": FloatDistribution(0, 1),
    }


def test_a_trial_is_asked_for_what_exists_alone(space):
    """Suggestions fit, and a trial holds no parameter of what does not exist."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(40):
        trial = study.ask()
        configuration = exchange.suggest(space, trial)
        space.check(configuration)
        seen.add(configuration["module"])
        assert (
            ("n" in trial.params)
            == ("direction[0]" in trial.params)
            == (configuration["module"] == "BestOfN")
        )
        study.tell(trial, 0.0)
    assert seen == {"Predict", "BestOfN"}


def test_a_trial_can_be_told_a_configuration(space):
    """What is enqueued as parameters is suggested as the configuration it was."""
    study, rng = optuna.create_study(), random.Random(0)
    for configuration in space.sample_many(20, rng):
        study.enqueue_trial(exchange.to_params(space, configuration))
        suggested = exchange.suggest(space, study.ask())
        assert space.encode(suggested) == pytest.approx(space.encode(configuration))
        assert suggested.keys() == configuration.keys()


def test_a_kind_of_ones_own_is_searched_through_the_unit_cube():
    """A variable that is none of ours needs no more than its coding."""

    class Angle(Float):
        kind = "angle"

    class Percent:
        """A share, written as a text."""

        when = {}  # noqa: RUF012  # a fake
        default, n_values, scale, width = "50%", 101, "ordered", 1

        def problem_with(self, value):
            return None if str(value).endswith("%") else "is no percentage"

        def canonical(self, value):
            return value

        resolve = canonical

        def coding(self):
            from dspex.variables.protocol import Coding

            def decode(share):
                return f"{round(100 * share)}%"

            return Coding(lambda value: int(value[:-1]) / 100, decode, lambda uniform: decode(uniform()))

    space = Space(angle=Angle(0, 360), share=Percent())
    assert space.to_optuna()["share"] == FloatDistribution(0, 1)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(exchange.to_params(space, space.default()))
    assert exchange.suggest(space, study.ask()) == {"angle": 180.0, "share": "50%"}
    space.check(exchange.suggest(space, study.ask()))
    with pytest.raises(VariableError, match="Ax has no word for share, a Percent"):
        space.to_ax()


def test_optunas_distributions_become_variables():
    """Bounds, scales, steps and choices are kept; anything else is refused."""
    space = Space.from_optuna(
        {
            "a": FloatDistribution(0.01, 1, log=True),
            "b": FloatDistribution(0, 1, step=0.25),
            "c": IntDistribution(1, 64, log=True),
            "d": IntDistribution(0, 8, step=2),
            "e": CategoricalDistribution([True, False]),
            "f": CategoricalDistribution(["x", None, 3]),
        }
    )
    assert dict(space) == {
        "a": Float(0.01, 1, log=True),
        "b": Float(0, 1, step=0.25),
        "c": Int(1, 64, log=True),
        "d": Int(0, 8, step=2),
        "e": Bool(),
        "f": Choice(["x", None, 3]),
    }
    with pytest.raises(VariableError, match="x must be one of Optuna's distributions, got 3"):
        exchange.from_optuna({"x": 3})


def test_ax_parameters(space):
    """Ranges, choices, what hangs on them, and what is fixed, in the words of Ax's service API."""
    assert space.without("direction").freeze(flag=False).to_ax() == [
        {"name": "rate", "type": "range", "bounds": [1e-4, 1.0], "value_type": "float", "log_scale": True},
        {
            "name": "share",
            "type": "range",
            "bounds": [0.0, 1.0],
            "value_type": "float",
            "log_scale": False,
            "step_size": 0.1,
        },
        {"name": "size", "type": "range", "bounds": [1, 64], "value_type": "int", "log_scale": True},
        {"name": "odd", "type": "choice", "values": [1, 5, 9], "value_type": "int", "is_ordered": True},
        {
            "name": "module",
            "type": "choice",
            "values": ["Predict", "BestOfN"],
            "value_type": "str",
            "is_ordered": False,
            "dependents": {"BestOfN": ["n"]},
        },
        {"name": "n", "type": "range", "bounds": [2, 5], "value_type": "int", "log_scale": False},
        {"name": "flag", "type": "fixed", "value": False},
    ]


# ── pydantic ────────────────────────────────────────────────────────────────────────────────────


def test_a_model_checks_configurations(space):
    """Wrong values, rules and names are pydantic's validation errors, each under its field."""
    model = Space(space.definitions, constraints=["size < 30 or flag"]).to_pydantic("Settings")
    assert model.__name__ == "Settings"
    assert model.model_validate({"module": "BestOfN", "size": 64}).configuration()["n"] == 2
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate({"share": 0.55, "module": "BestOf", "extra": 1})
    assert {error["loc"] for error in caught.value.errors()} == {("share",), ("module",), ("extra",)}
    with pytest.raises(pydantic.ValidationError, match="n exists only when module = BestOfN"):
        model.model_validate({"n": 3})
    with pytest.raises(pydantic.ValidationError, match="'size < 30 or flag' does not hold"):
        model.model_validate({"size": 40, "flag": False})


def test_a_models_schema_serves_forms(space):
    """The JSON schema has bounds, labels and defaults, and names as the space has them."""
    properties = (
        Space({"plan.rate": space["rate"], "model_x": space["module"]})
        .to_pydantic()
        .model_json_schema()["properties"]
    )
    assert properties["plan.rate"]["minimum"] == 1e-4
    assert properties["plan.rate"]["default"] == pytest.approx(0.01)
    assert properties["model_x"]["enum"] == ["Predict", "BestOfN"]


def test_objects_stay_behind_in_a_schema():
    """A choice of objects is a choice of its labels when it is read from a schema."""
    model = Space(tool=Choice({"a": object(), "b": None})).to_pydantic()
    assert Space.from_pydantic(model)["tool"] == Choice(["a", "b"])


def test_any_model_with_bounds_is_a_space():
    """Bounded numbers, literals, enums and truth values of a hand-written model become variables."""

    class Tone(enum.Enum):
        BRIEF = "brief"
        KIND = "kind"

    class Settings(pydantic.BaseModel):
        temperature: float = pydantic.Field(0.7, ge=0, le=1.5)
        steps: int = pydantic.Field(ge=1, le=9)
        mode: Literal["fast", "slow"] = "slow"
        tone: Tone
        strict: bool = True

    assert dict(Space.from_pydantic(Settings)) == {
        "temperature": Float(0, 1.5, default=0.7),
        "steps": Int(1, 9),
        "mode": Choice(["fast", "slow"], default="slow"),
        "tone": Choice(["brief", "kind"]),
        "strict": Bool(default=True),
    }

    class Open(pydantic.BaseModel):
        text: str

    with pytest.raises(VariableError, match="text has no values to choose from"):
        Space.from_pydantic(Open)
