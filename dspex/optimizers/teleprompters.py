"""DSPy's own optimizers, with DSPy's own options: they run whole, and a study watches them.

Each takes what its DSPy class takes, constructor and `compile` together; models may be given by name.

>>> Simba(max_steps=4, num_candidates=3)
Simba(max_steps=4, num_candidates=3)
>>> Simba(max_step=4)
Traceback (most recent call last):
    ...
dspex.errors.UnknownNameError: unknown SIMBA option 'max_step'; known: bsize, demo_input_field_maxlen, max_demos, max_steps, num_candidates, num_threads, prompt_model, seed, teacher_settings, temperature_for_candidates, temperature_for_sampling
  → did you mean 'max_steps'?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from dspex.bridge.teleprompters import Recipe


class Teleprompter:
    """One of DSPy's optimizers, ready for `dspex.optimize(..., optimizer=...)`.

    Parameters
    ----------
    **options
        What DSPy's class takes. `metric`, `trainset`, `valset` and the program are the study's.

    Raises
    ------
    UnknownNameError
        If DSPy's class has no such option.
    """

    kind: ClassVar[str]
    """DSPy's name for it."""

    def __init__(self, **options: Any) -> None:
        from dspex.bridge import teleprompters

        self.options = {
            name: value.recipe if isinstance(value, Teleprompter) else value
            for name, value in options.items()
        }
        teleprompters.check_options(self.kind, self.options)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({given})"

    @property
    def recipe(self) -> Recipe:
        """What the bridge makes it from."""
        from dspex.bridge.teleprompters import Recipe

        return Recipe(self.kind, self.options)


class Simba(Teleprompter):
    """SIMBA: mini-batches, several trajectories an example, demonstrations and rules from where they differ."""

    kind = "SIMBA"


class MIPROv2(Teleprompter):
    """MIPROv2: instructions proposed from the data, searched together with sets of demonstrations."""

    kind = "MIPROv2"


class GEPA(Teleprompter):
    """GEPA: instructions rewritten by reflection on feedback, along a Pareto front of examples."""

    kind = "GEPA"


class COPRO(Teleprompter):
    """COPRO: instructions rewritten round by round, by coordinate ascent."""

    kind = "COPRO"


class BootstrapFewShot(Teleprompter):
    """Demonstrations from a teacher's runs that the metric accepts, filled up with labelled examples."""

    kind = "BootstrapFewShot"


class BootstrapFewShotWithRandomSearch(Teleprompter):
    """Several bootstrapped sets of demonstrations, each scored on the valset."""

    kind = "BootstrapFewShotWithRandomSearch"


class BootstrapFewShotWithOptuna(Teleprompter):
    """One bootstrapped demonstration a predictor, chosen by Optuna."""

    kind = "BootstrapFewShotWithOptuna"


class KNNFewShot(Teleprompter):
    """Demonstrations bootstrapped anew for every input, from its nearest training examples.

    Without a `vectorizer`, texts are near when they share pieces of three letters.
    """

    kind = "KNNFewShot"


class InferRules(Teleprompter):
    """Rules induced from the training examples, added to the instructions of a bootstrapped program."""

    kind = "InferRules"


class BetterTogether(Teleprompter):
    """Several optimizers in turn: ``BetterTogether(p=MIPROv2(), s=Simba(), strategy="p -> s")``."""

    kind = "BetterTogether"


class LabeledFewShot(Teleprompter):
    """Labelled examples as demonstrations, as they are."""

    kind = "LabeledFewShot"


TELEPROMPTERS: dict[str, type[Teleprompter]] = {
    "better_together": BetterTogether,
    "bootstrap": BootstrapFewShot,
    "bootstrap_optuna": BootstrapFewShotWithOptuna,
    "bootstrap_rs": BootstrapFewShotWithRandomSearch,
    "copro": COPRO,
    "gepa": GEPA,
    "infer_rules": InferRules,
    "knn": KNNFewShot,
    "labeled": LabeledFewShot,
    "miprov2": MIPROv2,
    "simba": Simba,
}
"""By the names that `optimizer=` takes; DSPy's own names are understood too."""


def teleprompter_named(name: str) -> Teleprompter | None:
    """Make one of DSPy's optimizers with its defaults; None if there is none of that name.

    Examples
    --------
    >>> teleprompter_named("MIPROv2"), teleprompter_named("bootstrap"), teleprompter_named("beacon")
    (MIPROv2(), BootstrapFewShot(), None)
    """
    found = TELEPROMPTERS.get(name)
    if found is None:
        found = next((each for each in TELEPROMPTERS.values() if each.kind.lower() == name.lower()), None)
    return None if found is None else found()
