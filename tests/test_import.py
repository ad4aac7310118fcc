import subprocess
import sys

import pytest

import dspex

HEAVY = [
    "dspy",
    "torch",
    "joblib",
    "plotly",
    "IPython",
    "numpy",
    "pandas",
    "sqlalchemy",
    "optuna",
    "litellm",
    "jinja2",
]


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


@pytest.mark.parametrize("room", ["dspex", "dspex.records", "dspex.errors", "dspex.events", "dspex.pools"])
def test_import_is_light(room):
    """Importing dspex, or its lowest rooms, loads none of the heavy packages."""
    code = f"import sys, {room}; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code) == "[]"


def test_light_values_need_no_dspy():
    """A space and a signature are plain data: making them loads neither DSPy nor numpy."""
    code = (
        "import sys, dspex as dx\n"
        "dx.Space(t=dx.Float(0, 1), n=dx.Int(0, 3), c=dx.Choice(['a']), m=dx.Model(['openai/x']))\n"
        "str(dx.signature('question -> answer: float')), dx.Objective(), dx.Price(1, 2), dx.metrics.exact_match\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert run(code) == "[]"


@pytest.mark.parametrize("name", dspex.__all__)
def test_every_public_name_is_there(name):
    """What `__all__` promises can be imported."""
    assert getattr(dspex, name) is not None
    assert name in dir(dspex)


def test_public_names_are_sorted_and_have_homes():
    """`__all__` is sorted, holds no name twice, and matches the table of homes."""
    assert dspex.__all__ == sorted(set(dspex.__all__))
    assert set(dspex.__all__) == {*dspex._HOMES, "__version__"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("optimise", "module 'dspex' has no attribute 'optimise'; did you mean 'optimize'?"),
        ("space", "module 'dspex' has no attribute 'space'; did you mean 'Space'?"),
        ("qqqqqq", "module 'dspex' has no attribute 'qqqqqq'"),
    ],
)
def test_unknown_attribute_names_the_nearest(name, message):
    """A misspelt name gets Python's own error, with what was probably meant."""
    with pytest.raises(AttributeError) as caught:
        getattr(dspex, name)
    assert str(caught.value) == message
