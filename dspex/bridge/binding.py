"""Binding: make a program run a given way, on a copy of it or, for a while, on the program itself.

What to set comes as resolved values by name. ``temperature`` is for every predictor, ``plan.temperature``
for those of one part, ``*.temperature`` for the parts that match; the more particular name wins. Everything
is looked up and checked before anything is set, and whatever fails half-way is taken back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy

from dspex.bridge import bound, copying, derive, swapping
from dspex.bridge.bound import REMEMBERED, Configuration, Way, bound_class, way_of
from dspex.bridge.journal import Journal, NoJournal
from dspex.bridge.parts import LM_SETTINGS, Address, Part, Parts, has, holder_of
from dspex.errors import DefinitionError, UnknownNameError, VariableError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

_NAMED = ("adapter", "demos", "instructions", "model", "module")


def bind(
    program: dspy.Module,
    values: Mapping[str, Any],
    *,
    default_lm: dspy.BaseLM | None = None,
    examples: Sequence[dspy.Example] | None = None,
    optional: Container[str] = (),
) -> dspy.Module:
    """Return a copy of a program that runs the given way; the program itself is left alone.

    Parameters
    ----------
    values
        Resolved values by name: models as `dspy.LM`, modules as classes or factories, adapters by name or
        as they are, demos as a list, a number of `examples`, or something with ``pick(pool)``.
    default_lm
        The model that predictors without one of their own are tied to, once something is set on them.
        None leaves them to the model that is in force when they run.
    examples
        Where demos are taken from.
    optional
        Names that the program need not have; they are left out then.

    Raises
    ------
    DefinitionError
        If the program has no such part or attribute, or a value does not fit; every failure is listed.
    """
    copies = copying.Copies()
    binder = Binder(
        copying.copied(program, copies), values, default_lm, examples, optional=optional, shared=copies.shared
    )
    return binder.bound()


def bind_in_place(
    program: dspy.Module,
    values: Mapping[str, Any],
    journal: Journal,
    *,
    default_lm: dspy.BaseLM | None = None,
    examples: Sequence[dspy.Example] | None = None,
    optional: Container[str] = (),
) -> None:
    """Make the program itself run the given way; `journal` can take it back.

    Raises
    ------
    DefinitionError
        As for `bind`; nothing is changed then.
    """
    Binder(program, values, default_lm, examples, optional=optional, journal=journal).bound()


def check(program: dspy.Module, names: Iterable[str]) -> None:
    """Refuse names that this program does not have, without setting anything.

    Raises
    ------
    UnknownNameError
        If there are any; it lists what can vary.
    """
    parts = Parts(program)
    unknown = [name for name in names if not _is_known(parts, Address.of(name))]
    if unknown:
        raise _unknown(program, parts, unknown)


class Binder:
    """One binding: swaps modules first, since they decide what else there is, then plans, then sets."""

    def __init__(
        self,
        program: dspy.Module,
        values: Mapping[str, Any],
        default_lm: dspy.BaseLM | None,
        examples: Sequence[dspy.Example] | None,
        *,
        optional: Container[str] = (),
        journal: Journal | None = None,
        shared: Mapping[int, Any] | None = None,
    ) -> None:
        self.program = program
        self.values = sorted(
            ((Address.of(name), value) for name, value in values.items()), key=lambda each: each[0].rank
        )
        self.default_lm = default_lm
        self.examples = examples
        self.optional = optional
        self.in_place = journal is not None
        self.journal = NoJournal() if journal is None else journal
        self.shared = shared or {}
        self.parts = Parts(program)
        self.unknown: list[str] = []
        self.wrong: list[str] = []
        self.former: dict[tuple[str, str], Any] = {}
        # What is to be set on predictors is gathered first: a model and its settings belong together.
        self.models: dict[str, dspy.BaseLM] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.steps: list[tuple[Any, str, Any]] = []
        self.ways: dict[str, dict[str, Any]] = {}
        self._lms: dict[Any, dspy.BaseLM] = {}

    def bound(self) -> dspy.Module:
        """Do it all, or nothing, and return the program."""
        try:
            self._swap_modules()
            for address, value in self.values:
                self._plan(address, value)
            self._refuse()
            self._set()
        except BaseException:
            self.journal.undo()
            raise
        return self.program

    # ── modules ─────────────────────────────────────────────────────────────────────────────────

    def _swap_modules(self) -> None:
        chosen: dict[str, Callable[..., dspy.Module]] = {}
        for address, value in self.values:
            if address.what != "module":
                continue
            places = self._module_places(address.where)
            if not places:
                self.unknown.append(_text(address))
            chosen.update(dict.fromkeys(places, value))
        for where, module in chosen.items():
            if self.parts[where].module is not None:
                self._swap(where, module)
        if chosen:
            self.parts = Parts(self.program)

    def _module_places(self, where: str) -> list[str]:
        if not where:
            return self.parts.swappable()
        matching = self.parts.matching(where)
        if "*" in where:
            swappable = set(self.parts.swappable())
            return [address for address in matching if address in swappable]
        return matching

    def _swap(self, where: str, module: Callable[..., dspy.Module]) -> None:
        part = self.parts[where]
        if isinstance(part.holder, tuple):
            self.wrong.append(f"{where} stands in a tuple, in which no module can be replaced; use a list")
            return
        try:
            made = swapping.replacement(part.module, module)
        except Exception as error:  # noqa: BLE001  # a class of the user's may raise anything
            name = getattr(module, "__name__", module)
            self.wrong.append(f"{where or 'the program'} cannot be a {name}: {type(error).__name__}: {error}")
            return
        self._put(part, made)

    def _put(self, part: Part, made: Any) -> None:
        if part.holder is not None:
            self.journal.put(part.holder, part.key, made)
        elif self.in_place:
            self._become(made)
        else:
            self.program = made

    def _become(self, made: Any) -> None:
        """Let the user's own program be another one for a while: others hold on to that very object."""
        self.journal.set(self.program, "__class__", type(made))
        self.journal.set(self.program, "__dict__", vars(made))

    # ── planning ────────────────────────────────────────────────────────────────────────────────

    def _plan(self, address: Address, value: Any) -> None:
        where, what = address
        if what == "module":
            return
        places = self.parts.matching(where)
        if not places:
            self._plan_attribute(address, value)
            return
        known = False
        for place in places:
            known = self._plan_at(place, what, value) or known
        if not known:
            self._plan_attribute(address, value)

    def _plan_at(self, place: str, what: str, value: Any) -> bool:
        """Plan one value for one part; False if it has no such thing."""
        module = self.parts[place].module
        predictors = self.parts.predictors(place)
        if what == "adapter":
            self._plan_adapter(place, value)
            return True
        if what in _NAMED or (what in LM_SETTINGS and not has(module, what)):
            for each in predictors:
                self._plan_predictor(each, what, value)
            return bool(predictors)
        if has(module, what):
            self._plan_set(module, place, what, value)
            return True
        return False

    def _plan_predictor(self, place: str, what: str, value: Any) -> None:
        predictor = self.parts[place].module
        if what == "model":
            if not isinstance(value, dspy.BaseLM):
                self.wrong.append(f"{place or 'the program'} needs a dspy.LM as its model, got {value!r}")
                return
            self.models[place] = value
        elif what == "instructions":
            if value is None:
                return  # the program's own
            if not isinstance(value, str):
                self.wrong.append(f"instructions must be a text, got {value!r}")
                return
            self.steps.append((predictor, "signature", derive.instructed(predictor.signature, value)))
        elif what == "demos":
            demos = self._demos(value)
            if demos is not None:
                self.steps.append((predictor, "demos", demos))
        else:
            self.settings.setdefault(place, {})[what] = value

    def _demos(self, value: Any) -> list[dspy.Example] | None:
        pool = list(self.examples or ())
        if isinstance(value, int) and not isinstance(value, bool):
            if value > 0 and not pool:
                self.wrong.append(
                    f"{value} demos need examples to take them from, got none: "
                    "space.apply(..., examples=trainset), or Registry(space, demos=trainset)"
                )
                return None
            return pool[:value]
        if hasattr(value, "pick"):
            return list(value.pick(pool))
        if isinstance(value, (list, tuple)):
            return list(value)
        self.wrong.append(f"demos must be a list of examples, or how many, got {value!r}")
        return None

    def _plan_adapter(self, place: str, value: Any) -> None:
        try:
            adapter = bound.adapter_of(value)
        except DefinitionError as error:
            self.wrong.append(str(error.message))
            return
        self.ways.setdefault(place, {})["adapter"] = adapter

    def _plan_attribute(self, address: Address, value: Any) -> None:
        """Plan to set an attribute of an object that is no module, such as a retriever."""
        try:
            holder = holder_of(self.program, address.where)
        except (AttributeError, LookupError, TypeError):
            holder = None
        if holder is None or not has(holder, address.what):
            self.unknown.append(_text(address))
        else:
            self._plan_set(holder, address.where, address.what, value)

    def _plan_set(self, holder: Any, where: str, what: str, value: Any) -> None:
        before = getattr(holder, what)
        if isinstance(before, dspy.Module):
            name = _text(Address(where, what))
            self.wrong.append(f"{name} is a module; {name}.module says which one")
        elif id(holder) in self.shared:
            self.wrong.append(f"{where} cannot be copied, so to set its {what} would change your own")
        else:
            self.former[where, what] = before
            self.steps.append((holder, what, value))

    def _refuse(self) -> None:
        self.unknown = [name for name in self.unknown if name not in self.optional]
        if self.unknown and not self.wrong:
            raise _unknown(self.program, self.parts, self.unknown)
        failures = [f"there is no {name}" for name in self.unknown] + self.wrong
        if failures:
            raise VariableError.of_all(
                f"{type(self.program).__name__} cannot be bound:", list(dict.fromkeys(failures))
            )

    # ── setting ─────────────────────────────────────────────────────────────────────────────────

    def _set(self) -> None:
        for place in {**self.models, **self.settings}:
            self._set_model(place)
        for target, name, value in self.steps:
            self.journal.set(target, name, value)
        if not self.values:
            return
        self.ways.setdefault("", {})
        for place, changes in self.ways.items():
            module = self.parts[place].module
            own = vars(way_of(module)) | changes
            if not issubclass(type(module), bound.Bound):
                self.journal.set(module, "__class__", bound_class(type(module)))
            self.journal.set(module, bound.WAY, Way(**own))
        before = copying.contents(self.program).get(REMEMBERED)
        values = {_text(address): value for address, value in self.values}
        if isinstance(before, Configuration):
            values, self.former = {**before.values, **values}, {**self.former, **before.former}
        self.journal.set(self.program, REMEMBERED, Configuration(self.program, values, self.former))

    def _set_model(self, place: str) -> None:
        predictor = self.parts[place].module
        own = self.models.get(place, predictor.lm)
        base = self.default_lm if own is None else own
        settings = self.settings.get(place, {})
        lm = self._with_settings(base, settings) if base is not None else None
        self.journal.set(predictor, "lm", lm)
        if settings.keys() & predictor.config.keys():
            # A predictor's own config comes before its model's.
            self.former[place, "config"] = predictor.config
            left = {name: value for name, value in predictor.config.items() if name not in settings}
            self.journal.set(predictor, "config", left)
        self.ways.setdefault(place, {}).update(lm=lm, settings={**way_of(predictor).settings, **settings})

    def _with_settings(self, lm: dspy.BaseLM, settings: Mapping[str, Any]) -> dspy.BaseLM:
        """Return one model for equal settings: optimizers ask a program for its only one."""
        if not settings:
            return lm
        key = (id(lm), repr(sorted(settings.items())))
        if key not in self._lms:
            self._lms[key] = lm.copy(**settings)
        return self._lms[key]


def _is_known(parts: Parts, address: Address) -> bool:
    where, what = address
    if what == "module":
        return bool(parts.matching(where) if where else parts.swappable())
    for place in parts.matching(where):
        if what == "adapter" or has(parts[place].module, what):
            return True
        if (what in _NAMED or what in LM_SETTINGS) and parts.predictors(place):
            return True
    try:
        return has(holder_of(parts[""].module, where), what)
    except (AttributeError, LookupError, TypeError):
        return False


def _text(address: Address) -> str:
    return f"{address.where}.{address.what}" if address.where else address.what


def _unknown(program: dspy.Module, parts: Parts, unknown: Sequence[str]) -> UnknownNameError:
    known = parts.bindable()
    hints = [hint for hint in (did_you_mean(name, known) for name in unknown) if hint]
    return UnknownNameError(
        f"{type(program).__name__} has none of {', '.join(unknown)}; it can vary {', '.join(sorted(known))}",
        hint="; ".join(dict.fromkeys(hints))
        or "rename the variable, or give the program an attribute of that name",
    )
