"""What a DSPy program can vary as a whole: its model, module, adapter and instructions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from dspex.errors import DefinitionError, VariableError
from dspex.records import ModelInfo, Price
from dspex.variables.choice import Choice
from dspex.variables.spec import read, written

if TYPE_CHECKING:
    from dspex.records import Scalar

Proposer = Callable[[Any, Sequence[Any]], Sequence[str]]
"""(program, examples) → instructions to try."""


class Model(Choice):
    """Which model: DSPy model strings, or `dspy.LM` objects, which go by their `model` name.

    Parameters
    ----------
    info
        Label → `ModelInfo`, for models that LiteLLM's price table does not know, or knows otherwise.

    Examples
    --------
    >>> model = Model(["openai/gpt-4o", "openai/gpt-4o-mini"])
    >>> model.info("openai/gpt-4o").context_tokens, model.features("openai/gpt-4o-mini")["vision"]
    (128000, 1.0)
    """

    kind: ClassVar[str] = "model"

    def __init__(
        self,
        options: Sequence[Any] | Mapping[str, Any],
        *,
        info: Mapping[str, ModelInfo] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(options, **settings)
        self._info = _of_labels(info or {}, self, "info")
        wrong = [
            f"{label!r}: {each!r}" for label, each in self._info.items() if not isinstance(each, ModelInfo)
        ]
        if wrong:
            raise VariableError(f"info must be a ModelInfo for each label, got {', '.join(wrong)}")

    def _checked(self, label: Any, option: Any) -> Any:  # noqa: ARG002  # its own name is not needed
        self._label(option)
        return option

    def _label(self, option: Any) -> Scalar:
        label = option if isinstance(option, str) else getattr(option, "model", None)
        if not isinstance(label, str) or not label:
            raise VariableError(
                f"a model is a name such as 'openai/gpt-4o-mini' or a dspy.LM, got {option!r}",
            )
        return label

    def info(self, label: Any) -> ModelInfo:
        """Return what is known of a model: as declared here, or else in the price table."""
        from dspex.bridge import prices

        option = self.options[label]
        return self._info.get(label) or prices.info_of(option if isinstance(option, str) else option.model)

    def features(self, label: Any) -> dict[str, float]:
        """Return price, window and capabilities in numbers; what is not known is left out."""
        info, found = self.info(label), super().features(label)
        if info.price is not None:
            found["input_usd"], found["output_usd"] = info.price.input_usd, info.price.output_usd
            # Prices span four decades; free models stay finite.
            found["log_price"] = math.log10(max(1e-3, info.price.input_usd + info.price.output_usd))
        if info.context_tokens is not None:
            found["context_tokens"] = float(info.context_tokens)
        every = sorted({name for each in self.options for name in self.info(each).capabilities})
        return found | {name: float(name in info.capabilities) for name in every}

    def feature_names(self) -> set[str]:
        """Return the names of all features; prices and windows may become known later."""
        return super().feature_names() | {"input_usd", "output_usd", "log_price", "context_tokens"}

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON, with labels for objects."""
        return super().content() | ({"info": self._declared()} if self._info else {})

    def _declared(self) -> dict[str, Any]:
        return {
            label: {
                "price": None if each.price is None else [each.price.input_usd, each.price.output_usd],
                "context_tokens": each.context_tokens,
                "capabilities": sorted(each.capabilities),
            }
            for label, each in self._info.items()
        }

    @classmethod
    def from_dict(cls, arguments: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` said."""
        info = {
            label: ModelInfo(
                price=None if each["price"] is None else Price(*each["price"]),
                context_tokens=each["context_tokens"],
                capabilities=frozenset(each["capabilities"]),
            )
            for label, each in arguments.get("info", {}).items()
        }
        return super().from_dict({**arguments, "info": info})


class Module(Choice):
    """Which module: `dspy.Module` classes, functions that make one from a signature, or their names.

    A name is DSPy's own (``"ChainOfThought"``) or an import string (``"package.module:Class"``).

    Parameters
    ----------
    interface
        What every option must have: a Protocol, an abstract class, or names. Classes are looked at; a
        function is called once with a small signature, and what it makes is looked at.
    costs, depths
        Label → what a call costs compared to the others, and how many calls follow one another. They are
        features for surrogates and constraints.
    """

    kind: ClassVar[str] = "module"

    def __init__(
        self,
        options: Sequence[Any] | Mapping[str, Any],
        *,
        interface: type | Sequence[str] | None = None,
        costs: Mapping[str, float] | None = None,
        depths: Mapping[str, float] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(options, **settings)
        self.costs, self.depths = (
            _of_labels(costs or {}, self, "costs"),
            _of_labels(depths or {}, self, "depths"),
        )
        for name, prior in (("costs", self.costs), ("depths", self.depths)):
            wrong = {label: value for label, value in prior.items() if not _is_positive(value)}
            if wrong:
                raise VariableError(f"{name} must be numbers > 0, got {wrong}")
        self.interface = interface
        _check_interface(self.options, _asked(interface))

    def _labelled(self, options: Sequence[Any] | Mapping[str, Any]) -> dict[Scalar, Any]:
        from dspex.bridge import program

        labelled = super()._labelled(options)
        self._given = dict(labelled)
        problems = []
        for label, option in labelled.items():
            try:
                labelled[label] = program.module_class(option)
            except DefinitionError as error:
                problems.append(str(error))
        if problems:
            raise VariableError.of_all("every option must be a module:", problems)
        return labelled

    def features(self, label: Any) -> dict[str, float]:
        """Return cost and depth, 1 for what no prior was given for."""
        found = super().features(label)
        if self.costs:
            found["cost"] = float(self.costs.get(label, 1))
        if self.depths:
            found["depth"] = float(self.depths.get(label, 1))
        return found

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON, with labels for objects."""
        said: dict[str, Any] = {
            "costs": self.costs,
            "depths": self.depths,
            "interface": _asked(self.interface),
        }
        return super().content() | {name: value for name, value in said.items() if value}

    def to_dict(self) -> dict[str, Any]:
        """Describe the variable as JSON from which it can be made again; names stay names."""
        options = [[label, written(option, f"the option {label!r}")] for label, option in self._given.items()]
        named = all(label is option for label, option in self._given.items())
        return self.content() if named else {**self.content(), "options": options}


class Adapter(Choice):
    """Which format: "chat", "json" or "xml", or `dspy.Adapter` objects and classes.

    Examples
    --------
    >>> type(Adapter(["chat", "json"]).resolve("json")).__name__
    'JSONAdapter'
    """

    kind: ClassVar[str] = "adapter"

    def _label(self, option: Any) -> Scalar:
        if isinstance(option, (str, type)):
            return super()._label(option)
        return type(option).__name__

    def _checked(self, label: Any, option: Any) -> Any:  # noqa: ARG002  # its own name is not needed
        from dspex.bridge import formats

        try:
            formats.adapter(option)
        except DefinitionError as error:
            raise VariableError(error.message, hint=error.hint) from error
        return option

    def resolve(self, value: Any) -> Any:
        """Return the `dspy.Adapter` behind a label."""
        from dspex.bridge import formats

        return formats.adapter(self.options[value])


class Instruction(Choice):
    """Which instructions: texts, or label → text; None leaves the program's own.

    Parameters
    ----------
    options
        What to try; only the program's own if left out, until `Space.prepared` asks the proposer.
    proposer
        Called as ``proposer(program, examples)``, returns more texts to try.
    """

    kind: ClassVar[str] = "instruction"

    def __init__(
        self,
        options: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        proposer: Proposer | None = None,
        **settings: Any,
    ) -> None:
        if options is None and proposer is None:
            raise VariableError(
                "an Instruction needs texts or a proposer, got neither", hint="Instruction(['Be brief.'])"
            )
        if proposer is not None and not callable(proposer):
            raise VariableError(f"a proposer is called as proposer(program, examples), got {proposer!r}")
        super().__init__([None] if options is None else options, **settings)
        self.proposer = proposer

    def _checked(self, label: Any, option: Any) -> Any:  # noqa: ARG002  # its own name is not needed
        if option is not None and not (isinstance(option, str) and option.strip()):
            raise VariableError(f"instructions are a text, got {option!r}")
        return option

    def prepared(self, program: Any, examples: Sequence[Any]) -> Instruction:
        """Return it with what the proposer proposes for a program; without one, as it is."""
        if self.proposer is None:
            return self
        proposed = [text for text in self.proposer(program, examples) if text not in self.options.values()]
        options: dict[Any, Any] = {**self.options, **{text: text for text in proposed}}
        # Those that are new are as likely as the others on average.
        mean = None if self.weights is None else sum(self.weights) / len(self.weights)
        weights = (
            None if self.weights is None else [*self.weights, *[mean] * (len(options) - len(self.weights))]
        )
        return type(self)(
            options,
            proposer=self.proposer,
            default=self.default,
            weights=weights,
            ordered=False,
            when=self.when,
        )

    def to_dict(self) -> dict[str, Any]:
        """Describe the variable as JSON from which it can be made again."""
        said = super().to_dict()
        return said if self.proposer is None else {**said, "proposer": written(self.proposer, "the proposer")}

    @classmethod
    def from_dict(cls, arguments: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` said."""
        proposer = arguments.get("proposer")
        return super().from_dict({**arguments, "proposer": None if proposer is None else read(proposer)})


def _of_labels(given: Mapping[str, Any], variable: Choice, what: str) -> dict[str, Any]:
    for label in given:
        problem = variable.problem_with(label)
        if problem is not None:
            raise VariableError(f"a label of {what} {problem}")
    return dict(given)


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _asked(interface: type | Sequence[str] | None) -> list[str]:
    """Return the names that an interface asks for."""
    if interface is None:
        return []
    if not isinstance(interface, type):
        return [interface] if isinstance(interface, str) else list(interface)
    plain = {*dir(Protocol), *dir(type("Plain", (), {}))}
    found = {
        name
        for base in interface.__mro__
        if base.__module__ not in {"builtins", "typing", "abc"}
        for name in [*vars(base), *vars(base).get("__annotations__", {})]
    }
    return sorted(
        name for name in found - plain if not name.startswith(("_abc_", "_is_", "__")) or name == "__call__"
    )


def _check_interface(options: Mapping[Any, Any], names: Sequence[str]) -> None:
    problems = []
    for label, option in options.items():
        try:
            found = option if isinstance(option, type) or not names else option("question -> answer")
        except Exception as error:  # noqa: BLE001  # the user's own code: whatever it raises is the problem
            problems.append(f"{label} could not be made to be looked at: {type(error).__name__}: {error}")
            continue
        annotated = (
            {name for base in type.mro(found) for name in vars(base).get("__annotations__", {})}
            if isinstance(found, type)
            else ()
        )
        missing = [name for name in names if not hasattr(found, name) and name not in annotated]
        if missing:
            problems.append(f"{label} lacks {', '.join(missing)}")
    if problems:
        raise VariableError.of_all("every option must have what the interface asks for:", problems)
