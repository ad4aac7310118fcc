import pytest

from dspex.errors import DataError
from dspex.sandbox.serving.mishaps import Mishap, Plan
from dspex.sandbox.world import MODELS


def hits(plan, calls=1, at_s=0.0, model="small"):
    found = (plan.hits(number, at_s=at_s, model=model) for number in range(calls))
    return [mishap and mishap.kind for mishap in found]


def test_conditions_must_all_hold():
    """A mishap hits its calls, in its seconds, of its model, and no others."""
    plan = Plan.of([{"kind": "hang", "calls": [1, 3], "seconds": [5, 10], "model": "sandbox/large"}])
    assert hits(plan, 4, at_s=5, model="large") == [None, "hang", "hang", None]
    assert hits(plan, 4, at_s=4.9, model="large") == hits(plan, 4, at_s=10, model="large") == [None] * 4
    assert hits(plan, 4, at_s=5, model="small") == [None] * 4


def test_shares_are_kept_and_repeatable():
    """About the asked share of calls is hit, the same ones with the same seed; the first mishap comes first."""
    rows = [{"kind": "rate_limit", "share": 0.2}, {"kind": "drop", "share": 0.5}]
    found = hits(Plan.of(rows), 1000)
    assert found == hits(Plan.of(rows), 1000)
    assert found != hits(Plan.of(rows, seed=1), 1000)
    assert 160 < found.count("rate_limit") < 240
    assert 350 < found.count("drop") < 450


def test_a_plan_is_a_file(tmp_path):
    """TOML and plain data say the same."""
    path = tmp_path / "faults.toml"
    path.write_text(
        'seed = 3\n[[fault]]\nkind = "late"\ndelay_s = 0.5\ncalls = [0, 10]\n[[fault]]\nkind = "drop"\nshare = 0.1\n'
    )
    plan = Plan.read(path)
    assert plan == Plan((Mishap("late", delay_s=0.5, calls=(0, 10)), Mishap("drop", 0.1)), seed=3)
    assert Plan.of(plan.state(), seed=3) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read"),
        ("fault = [", "is not TOML"),
        ("faults = []", "has faults; a fault plan has"),
        ('[[fault]]\nkind = "hnag"', "did you mean 'hang'?"),
    ],
)
def test_files_that_are_no_plan(tmp_path, text, message):
    """What is wrong with a file is said with its name."""
    path = tmp_path / "faults.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError) as caught:
        Plan.read(path)
    assert message in str(caught.value)


def test_everything_wrong_is_said_at_once():
    """Each failure names the fault, what was expected and what was there."""
    rows = [
        {"kind": "drop", "share": 2, "sharee": 1},
        {"kind": "hangs", "calls": [3, 1], "seconds": 4, "model": "sandbox/smal"},
        {"kind": "server_error", "status": 200, "retry_after_s": None, "delay_s": "long"},
    ]
    with pytest.raises(DataError) as caught:
        Plan.of(rows)
    assert caught.value.message.splitlines()[1:] == [
        "  - fault 0: unknown setting 'sharee'; did you mean 'share'?",
        "  - fault 0: share must lie between 0 and 1, got 2",
        "  - fault 1: unknown kind 'hangs'; did you mean 'hang'?",
        "  - fault 1: calls must be two numbers, the second not below the first, got [3, 1]",
        "  - fault 1: seconds must be two numbers, the second not below the first, got 4",
        (
            f"  - fault 1: unknown sandbox model 'sandbox/smal'; known: {', '.join(sorted(MODELS))}; "
            "did you mean 'sandbox/small'?"
        ),
        "  - fault 2: delay_s must lie between 0 and 3600, got 'long'",
        "  - fault 2: status must lie between 500 and 599, got 200",
    ]
