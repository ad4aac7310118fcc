import pickle
import threading

import dspy
import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import DefinitionError, TemplateError
from dspex.native import template as room
from dspex.native.template import Template, template

PROMPT = """Sort the message into {{ labels | join(" or ") }}.
{% for demo in demos %}
Message: {{ demo.message }}
Label: {{ demo.label }}
{% endfor %}
{% if hint is defined %}
Hint: {{ hint }}
{% endif %}
Message: {{ message }}
"""
DEMO = {"message": "It broke.", "label": "bug"}


def said(text, *args, **values):
    with pytest.raises(TemplateError) as caught:
        template(text).render(*args, **values)
    return str(caught.value)


# ── filling in ──────────────────────────────────────────────────────────────────────────────────


def test_a_prompt_is_filled_in():
    """Lines with only a tag leave nothing behind; what is not defined may be left out."""
    made = template(PROMPT)
    assert (made.names, made.optional) == (("labels", "demos", "message"), ("hint",))
    assert repr(made) == "<Template: labels, demos, message, hint?>"
    expected = "Sort the message into bug or question.\nMessage: It broke.\nLabel: bug\n{}Message: Hm?"
    values = {"labels": ["bug", "question"], "demos": [DEMO], "message": "Hm?"}
    assert made.render(**values) == expected.format("")
    assert made.render(**values, hint="look") == expected.format("Hint: look\n")


def test_values_may_be_a_mapping_a_set_of_keywords_or_both():
    """A mapping may hold more than is needed, and keywords come before it."""
    made = template("{{ a }}{{ b }}")
    assert made.render({"a": 1, "b": 2, "c": 3}) == "12"
    assert made.render({"a": 1, "b": 2}, b=5) == "15"


def test_a_value_may_have_any_name():
    """Names that the method itself uses are free for values."""
    made = template("{{ values }}{{ named }}")
    assert made.render(values=1, named=2) == "12"


def test_demos_may_be_examples():
    """The fields of a DSPy example are reached like a mapping's."""
    made = template("{% for demo in demos %}{{ demo.label }} {% endfor %}")
    assert made.render(demos=[dspy.Example(**DEMO)] * 2) == "bug bug "


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_nothing_is_escaped_or_read_again(text):
    """A value is put in as it is, whatever it looks like."""
    assert template("<{{ x }}>").render(x=text) == f"<{text}>"
    assert template("{{ x }}").render(x="{{ y }} & <b>") == "{{ y }} & <b>"


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("{{ x | json }}", {"é": [1, None, "<"]}, '{"é": [1, null, "<"]}'),
        ("{{ x | json(indent=1) }}", [1], "[\n 1\n]"),
        ("{{ x | bullets }}", ["a", 2], "- a\n- 2"),
        ("{{ x | bullets('*') }}", ["a"], "* a"),
        ("{{ x | numbered }}", ["a", "b"], "1. a\n2. b"),
        ("{{ x | numbered(start=0) }}", ["a"], "0. a"),
        ("{{ x | quote }}", "a\n\nb", "> a\n>\n> b"),
        ("{{ x | quote }}", "", ">"),
        ("{{ x | upper }}", "a", "A"),
    ],
)
def test_filters(text, value, expected):
    """Four of ours beside Jinja2's own."""
    assert template(text).render(x=value) == expected


# ── values that do not fit ──────────────────────────────────────────────────────────────────────


def test_all_that_is_wrong_with_the_values_comes_at_once():
    """Every missing and every unknown name, and which was probably meant."""
    assert said(PROMPT, label=["bug"], mesage="Hm?", wholly=1) == (
        "the template needs labels, demos, message; missing: labels, demos, message; unknown: label, mesage, wholly\n"
        "  → label: did you mean 'labels'?; mesage: did you mean 'message'?"
    )


def test_missing_names_are_listed_also_for_a_mapping():
    """With nothing near, the call is written out."""
    assert said("{{ a }}{{ bb }}", {"zzzz": 1}) == (
        "the template needs a, bb; missing: a, bb\n  → render(a=..., bb=...)"
    )


def test_a_keyword_that_is_not_known_is_refused():
    """It would otherwise be lost without a word; the optional name may have been meant."""
    assert said("{{ a | default('x') }}", b=1).startswith("the template needs no value; unknown: b")
    assert "hin: did you mean 'hint'?" in said(PROMPT, labels=[], demos=[], message="", hin="x")


@pytest.mark.parametrize(
    "use",
    ["a.lable", "a['lable']", "a.lable.x", "a.lable ~ 'x'", "1 + a.lable", "-a.lable", "a.lable > 1",
     "a.lable == 1", "a.lable | upper", "a.lable | int", "a.lable | join(',')", "a.lable()",
     "1 if a.lable else 2"],
)  # fmt: skip
def test_what_is_not_in_a_value_is_named_with_the_nearest(use):
    """Any use of a key that is not there says the line, the keys, and the one that was meant."""
    assert said("Hi\n{{ " + use + " }}", a={"label": 1, "x": 2}) == (
        f"line 2: a value (dict) has no 'lable'; it has label, x\n  {{{{ {use} }}}}\n"
        f"  {' ' * (3 + use.index('lable'))}^\n  → did you mean 'label'?"
    )


def test_a_name_set_in_a_branch_not_taken():
    """A name that the template itself sets is not asked for; where it has no value, that is said."""
    made = template("{% if a %}{% set z = 1 %}{% endif %}{{ z }}")
    assert made.names == ("a",)
    assert made.render(a=True) == "1"
    assert "'z' has no value where the template uses it" in said(made, a=False)


def test_a_default_holds_for_keys_too():
    """A key may be missing where the template says what to put instead."""
    assert template("{{ a.b | default('none') }}").render(a={}) == "none"


def test_a_values_own_errors_pass_through():
    """What fails inside a value's code is the user's to see as it is."""

    class Broken:
        @property
        def label(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        template("{{ a.label }}").render(a=Broken())
    with pytest.raises(TypeError):
        template("{{ a + 1 }}").render(a="x")


# ── templates that cannot be read ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Hi {{ a b }}",
            "line 1: expected token 'end of print statement', got 'b'\n  Hi {{ a b }}\n          ^",
        ),
        (
            "x\n{{ a | jsn }}",
            "line 2: no filter is named 'jsn'\n  {{ a | jsn }}\n         ^\n  → did you mean 'json'?",
        ),
        ("{% if x is define %}{% endif %}", "→ did you mean 'defined'?"),
        ("x\n  {% fro y in z %}", "line 2: Encountered unknown tag 'fro'\n    {% fro y in z %}\n       ^"),
        ("x\n{% endfor %}", "line 2: Encountered unknown tag 'endfor'\n  {% endfor %}\n     ^"),
        ("{% for x in y %}\nz", "looking for the following tags: 'endfor' or 'else'"),
        ("{{ a", "unexpected end of template"),
        ("{% include 'x' %}", "cannot include, import or extend another\n  {% include 'x' %}\n     ^"),
        ("{% from 'x' import y %}", "cannot include, import or extend another"),
        ("{% extends 'x' %}", "cannot include, import or extend another"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(text, expected):
    """Line, reason and a caret, when the template is made and not when it is first used."""
    with pytest.raises(TemplateError) as caught:
        template(text)
    assert expected in str(caught.value)
    assert isinstance(caught.value, DefinitionError)


def test_a_template_is_a_text():
    """Anything else is refused; a template is its own answer."""
    made = template("x")
    assert template(made) is made
    with pytest.raises(TemplateError, match="a template is a text, got 3"):
        template(3)


# ── the sandbox ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    ["{{ a.__class__ }}", "{{ a.x.__init__.__globals__ }}", "{{ a._private }}", "{{ ''.__class__.__mro__ }}"],
)
def test_what_is_hidden_is_refused_when_read(text):
    """An attribute that begins with an underscore is an error of the template, whatever its values."""
    with pytest.raises(TemplateError, match="it begins with '_'"):
        template(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ a['__class__'] }}",
        "{{ a | attr('__class__') }}",
        "{{ a['__cla' ~ 'ss__'] }}",
        "{{ '{0.__class__}'.format(a) }}",
        "{{ a.append(1) }}",
        "{{ f.gi_frame }}",
    ],
)
def test_what_is_hidden_is_refused_when_filled_in(text):
    """Nor is it reached by a detour, and no value is changed."""
    value = [0]
    values = {"a": value} if "f" not in template(text).names else {"f": (x for x in value)}
    assert "a template may not reach" in said(text, **values)
    assert value == [0]


def test_map_gives_nothing_hidden_away():
    """A filter that takes attribute names gets nothing but our refusal."""
    assert "class" not in template("{{ a | map(attribute='__class__') | list }}").render(a=[1])


# ── read once ───────────────────────────────────────────────────────────────────────────────────


def test_a_text_is_read_once_and_few_are_kept():
    """Equal texts share what was read; the store of them is bounded."""
    assert template("x {{ y }}")._read is template("x {{ y }}")._read
    first = template("the first {{ y }}")
    for number in range(room._KEPT + 10):
        template(f"{number}")
    assert room._read.cache_info().currsize == room._KEPT
    assert first.render(y=1) == "the first 1"


def test_templates_are_values():
    """Equal texts are equal; a copy from another process is too, and fills in as the first did."""
    made = template("x {{ y }}")
    assert made == Template("x {{ y }}")
    assert made != "x {{ y }}"
    assert len({made, Template("x {{ y }}")}) == 1
    assert pickle.loads(pickle.dumps(made)).render(y=1) == "x 1"  # noqa: S301  # our own bytes


def test_threads_share_a_template():
    """Filling in at the same time mixes nothing up."""
    made = template("{% for x in xs %}{{ x }},{% endfor %}")
    wrong = []

    def fill(number):
        expected = f"{number}," * 50
        wrong.extend(number for _ in range(50) if made.render(xs=[number] * 50) != expected)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


@given(
    st.lists(
        st.sampled_from(["{{ a }}", "{% if a %}", "{% endif %}", "x\n", "{# c #}", "{{ b | upper }}", "}}"])
    )
)
def test_equal_to_plain_jinja(parts):
    """What plain Jinja2 reads, a template reads; and both say the same."""
    text = "".join(parts)
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701  # prompts, not pages
    try:
        expected = plain.from_string(text).render(a="1", b="two")
    except jinja2.TemplateSyntaxError:
        with pytest.raises(TemplateError):
            template(text)
    else:
        assert template(text).render({"a": "1", "b": "two"}) == expected
