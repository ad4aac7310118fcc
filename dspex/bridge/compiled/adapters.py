"""Drop-ins for DSPy's Chat, JSON and XML adapters, through plans.

They carry DSPy's names, because streaming looks an adapter up by the name of its class. Whatever a plan was
not proven for (a version, a type, a subclass with texts of its own) and whatever fails runs through DSPy's
own code instead, so that its result or its exception is DSPy's.
"""

from __future__ import annotations

import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import dspy
from dspy.adapters._legacy_type_markers import _expand_legacy_custom_type_markers_in_chat_message as _expanded
from dspy.dsp.utils.settings import main_thread_config, thread_local_overrides
from dspy.utils.callback import with_callbacks

from dspex.bridge.compiled.chat import ChatPlan
from dspex.bridge.compiled.jsonish import JsonPlan, response_format
from dspex.bridge.compiled.plan import MARKER, Plan, asking
from dspex.bridge.compiled.plans import Entry, Plans
from dspex.bridge.compiled.values import UnprovenError
from dspex.bridge.compiled.xml import XmlPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    Messages = list[dict[str, Any]]

_HOOKS = frozenset(
    {
        "_elements_to_value", "_get_history_field_name", "_group_children", "_schema_to_xml", "_uses_nested_xml",
        "_value_to_xml", "_xml_schema", "format_assistant_message_content", "format_conversation_history",
        "format_demos", "format_field_description", "format_field_structure", "format_field_with_value",
        "format_system_message", "format_task_description", "format_user_message_content",
        "user_message_output_requirements",
    }
)  # fmt: skip
"""What a subclass or an instance may define to write other texts than DSPy's."""


class _Compiled:
    """What the three adapters share; it stands before DSPy's adapter among their bases."""

    plans: Plans
    is_compiled: bool = True
    callbacks: ClassVar[list[Any]] = []  # for a subclass that makes itself without DSPy's `__init__`
    _fast_format: Any = None
    _observed_format: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        own = cls.__mro__[: cls.__mro__.index(_Compiled)]
        roots = [base for base in own if "plans" in base.__dict__]
        if roots:  # a user's subclass: what stands before ours among its bases decides
            before = own[: own.index(roots[0])]
            cls.is_compiled = not any(_HOOKS & vars(base).keys() for base in before)
            # DSPy wraps `format` and `parse` of every subclass, to report their calls once more.
            for name in ("format", "parse"):
                if getattr(cls, name) is getattr(cls, f"_fast_{name}"):
                    setattr(cls, name, getattr(cls, f"_observed_{name}"))
        super().__init_subclass__(**kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOOKS:
            self.__dict__["is_compiled"] = False
        super().__setattr__(name, value)

    def _entry(self, signature: Any) -> Entry | None:
        return self.plans.entry(signature) if self.is_compiled else None

    def _plan(self, signature: Any) -> Plan | None:
        return self.plans.find(signature) if self.is_compiled else None

    def _make_json_adapter_fallback(self) -> dspy.JSONAdapter:
        return JSONAdapter(
            use_native_function_calling=self.use_native_function_calling,  # type: ignore[attr-defined]  # DSPy's
            parallel_tool_calls=self.parallel_tool_calls,  # type: ignore[attr-defined]  # DSPy's
        )

    def _call_preprocess(self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, inputs: Any) -> Any:
        plan = self._plan(signature)
        is_native = self.use_native_function_calling  # type: ignore[attr-defined]  # DSPy's
        if plan is None or plan.has_types or (is_native and plan.has_tool_calls):
            return super()._call_preprocess(lm, lm_kwargs, signature, inputs)  # type: ignore[misc]  # as above
        if not is_native:
            for key in ("tools", "tool_choice", "parallel_tool_calls"):
                lm_kwargs.pop(key, None)
        return signature

    def _call_postprocess(
        self,
        processed_signature: Any,
        original_signature: Any,
        outputs: Any,
        lm: Any,
        lm_kwargs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        plan = self._plan(original_signature) if processed_signature is original_signature else None
        # Plain texts of plain fields need nothing beyond being read.
        if (
            plan is None
            or plan.has_types
            or plan.has_tool_calls
            or not all(type(each) is str and each for each in outputs)
        ):
            values: list[dict[str, Any]] = super()._call_postprocess(  # type: ignore[misc]  # as above
                processed_signature, original_signature, outputs, lm, lm_kwargs
            )
            return values
        return [plan.filled(original_signature, self.parse(processed_signature, text)) for text in outputs]  # type: ignore[attr-defined]  # as above

    def format_system_message(self, signature: Any) -> str:
        """Write the system message."""
        plan = self._plan(signature)
        if plan is not None and plan.system is not None:
            return plan.system
        written: str = super().format_system_message(signature)  # type: ignore[misc]  # DSPy's adapter follows
        return written

    def format_user_message_content(
        self, signature: Any, inputs: Any, prefix: str = "", suffix: str = "", main_request: bool = False
    ) -> str:
        """Write a user message."""
        plan = self._plan(signature) if suffix == "" else None
        if plan is not None:
            try:
                return plan.user(inputs, prefix, plan.requirements if main_request else None)
            except Exception:  # noqa: BLE001, S110  # DSPy says below what is wrong, in its own words
                pass
        written: str = super().format_user_message_content(signature, inputs, prefix, suffix, main_request)  # type: ignore[misc]  # as above
        return written

    def format_assistant_message_content(
        self, signature: Any, outputs: Any, missing_field_message: str | None = None
    ) -> str:
        """Write an assistant message."""
        plan = self._plan(signature)
        if plan is not None:
            try:
                return plan.assistant(outputs, missing_field_message)
            except Exception:  # noqa: BLE001, S110  # as above
                pass
        written: str = super().format_assistant_message_content(signature, outputs, missing_field_message)  # type: ignore[misc]  # as above
        return written


class ChatAdapter(_Compiled, dspy.ChatAdapter):  # type: ignore[misc]  # DSPy is untyped
    """`dspy.ChatAdapter`, the same to the byte, with everything prepared that does not depend on values."""


class JSONAdapter(_Compiled, dspy.JSONAdapter):  # type: ignore[misc]  # DSPy is untyped
    """`dspy.JSONAdapter`, the same to the byte, with everything prepared that does not depend on values."""

    def _prepare_response_format(self, lm: Any, lm_kwargs: dict[str, Any], signature: Any) -> None:
        entry = self._entry(signature)
        plan = None if entry is None else entry.plan
        if entry is None or not isinstance(plan, JsonPlan) or "response_format" not in lm.supported_params:
            super()._prepare_response_format(lm, lm_kwargs, signature)
            return
        tools_as_text = plan.has_tool_calls and not self.use_native_function_calling
        if plan.is_open_ended or tools_as_text or not lm.supports_response_schema:
            lm_kwargs["response_format"] = {"type": "json_object"}
            return
        try:
            found = response_format(entry, signature, self.use_native_function_calling)
        except Exception:  # noqa: BLE001  # DSPy meets it again, and says or does what it does about it
            super()._prepare_response_format(lm, lm_kwargs, signature)
            return
        lm_kwargs["response_format"] = found


class XMLAdapter(_Compiled, dspy.XMLAdapter):  # type: ignore[misc]  # DSPy is untyped
    """`dspy.XMLAdapter`, the same to the byte, with everything prepared that does not depend on values."""


def _fields(plan: Plan | None, signature: Any, completion: str) -> dict[str, Any]:
    if plan is None:
        raise UnprovenError
    return plan.parse(signature, completion)


def _messages(adapter: Any, entry: Entry | None, signature: Any, demos: Any, inputs: Any) -> Messages:
    plan = None if entry is None else entry.plan
    if entry is None or plan is None or type(demos) not in (list, tuple):
        raise UnprovenError
    if type(inputs) is not dict:
        inputs = dict(inputs)
    if plan.history is not None:
        return _with_history(adapter, entry, signature, demos, inputs)
    system = plan.system
    if system is None:
        system = adapter.format_system_message(signature)
    messages = [{"role": "system", "content": system}]
    if demos:
        messages += plan.demo_messages(demos)
    content = plan.request(inputs)
    if content:
        messages.append(asking(content))
    return messages


def _with_history(adapter: Any, entry: Entry, signature: Any, demos: Any, inputs: dict[str, Any]) -> Messages:
    """Write a conversation; DSPy writes its turns, through the plan of the signature without its history."""
    plan = entry.plan
    assert plan is not None
    if entry.without_history is None:
        entry.without_history = signature.delete(plan.history)
    rest = entry.without_history
    inputs = dict(inputs)
    turns = adapter.format_conversation_history(rest, plan.history, inputs)
    messages = [{"role": "system", "content": adapter.format_system_message(signature)}]
    messages += plan.demo_messages(demos)
    messages += [asking(turn["content"]) if turn["role"] == "user" else turn for turn in turns]
    content = adapter.format_user_message_content(rest, inputs, main_request=True)
    if content:
        messages.append(asking(content))
    return messages


def _install(cls: Any, stock: Any, plans: Plans) -> None:  # noqa: C901  # four methods that share what is fixed
    """Give an adapter its `format` and `parse`.

    They are set on the finished class, past DSPy's wrapping: the fast ones look for callbacks themselves, and
    where there are any, the observed ones report to them exactly as often, and with the same, as DSPy's own.
    """
    stock_format, stock_parse = inspect.unwrap(stock.format), inspect.unwrap(stock.parse)
    entry_of, scope_of = plans.entries.get, thread_local_overrides.get

    def plain_format(self: Any, signature: Any, demos: Any, inputs: Any) -> Messages:
        try:
            return _messages(self, self._entry(signature), signature, demos, inputs)
        except Exception as error:  # noqa: BLE001  # DSPy says below what is wrong, in its own words
            _count(stock, "format", error)
        return stock_format(self, signature, demos, inputs)  # type: ignore[no-any-return]  # DSPy is untyped

    def plain_parse(self: Any, signature: Any, completion: str) -> dict[str, Any]:
        try:
            return _fields(self._plan(signature), signature, completion)
        except Exception as error:  # noqa: BLE001  # as above
            _count(stock, "parse", error)
        return stock_parse(self, signature, completion)  # type: ignore[no-any-return]  # as above

    observed_format = _observed(plain_format, "format", stock.format)
    observed_parse = _observed(plain_parse, "parse", stock.parse)

    # The usual case is written out: every call of a program passes here. All else goes the observed way.
    def fast_format(self: Any, signature: Any, demos: Any, inputs: Any) -> Messages:
        scope = scope_of()
        if not (
            (scope["callbacks"] if "callbacks" in scope else main_thread_config["callbacks"])
            or self.callbacks
        ):
            entry = entry_of(id(signature))
            if (
                entry is not None
                and (plan := entry.simple) is not None
                and self.is_compiled
                and type(inputs) is dict
                and type(demos) is list
                and entry.fits(signature)
            ):
                try:
                    messages: Messages = [{"role": "system", "content": plan.system}]
                    if demos:
                        messages += plan.demo_messages(demos)
                    content = plan.request(inputs)
                except Exception as error:  # noqa: BLE001  # as above
                    _count(stock, "format", error)
                    return stock_format(self, signature, demos, inputs)  # type: ignore[no-any-return]  # as above
                message = {"role": "user", "content": content}
                messages.append(_expanded(message) if MARKER in content else message)
                return messages
        return observed_format(self, signature, demos, inputs)  # type: ignore[no-any-return]  # as above

    def fast_parse(self: Any, signature: Any, completion: str) -> dict[str, Any]:
        scope = scope_of()
        if not (
            (scope["callbacks"] if "callbacks" in scope else main_thread_config["callbacks"])
            or self.callbacks
        ):
            entry = entry_of(id(signature))
            if entry is not None and self.is_compiled and entry.fits(signature) and entry.plan is not None:
                try:
                    return entry.plan.parse(signature, completion)
                except Exception as error:  # noqa: BLE001  # as above
                    _count(stock, "parse", error)
                    return stock_parse(self, signature, completion)  # type: ignore[no-any-return]  # as above
        return observed_parse(self, signature, completion)  # type: ignore[no-any-return]  # as above

    cls.plans = plans
    cls._fast_format, cls._fast_parse = fast_format, fast_parse
    cls._observed_format, cls._observed_parse = observed_format, observed_parse
    cls.format, cls.parse = fast_format, fast_parse
    for function, name in ((fast_format, "format"), (fast_parse, "parse")):
        function.__name__, function.__qualname__ = name, f"{cls.__name__}.{name}"
        function.__doc__ = getattr(stock, name).__doc__


_taken_over: Counter[str] = Counter()


def _count(stock: Any, method: str, error: Exception) -> None:
    reason = "not proven" if isinstance(error, UnprovenError) else type(error).__name__
    _taken_over[f"{stock.__name__}.{method}: {reason}"] += 1


def fallbacks() -> dict[str, int]:
    """Say how often DSPy's own code took over, and why: a plan was not proven for it, or it failed.

    A completion that cannot be parsed is among them, since DSPy is to say so in its own words.
    """
    return dict(_taken_over)


def _observed(plain: Callable[..., Any], name: str, stock_method: Any) -> Callable[..., Any]:
    """Wrap a method as many times as DSPy wrapped its own: so often it reports one call."""
    plain.__name__ = name
    while hasattr(stock_method, "__wrapped__"):
        plain = with_callbacks(plain)
        stock_method = stock_method.__wrapped__
    return plain


_install(ChatAdapter, dspy.ChatAdapter, Plans(ChatPlan))
_install(JSONAdapter, dspy.JSONAdapter, Plans(JsonPlan))
_install(XMLAdapter, dspy.XMLAdapter, Plans(XmlPlan))
