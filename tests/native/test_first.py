import logging

import pytest

from dspex.errors import DataError, NotSupportedError
from dspex.native.first import native_first


def halve_even(number, *, noisy=False):
    if noisy:
        raise DataError("too noisy")
    if number % 2:
        raise NotSupportedError(f"{number} is odd")
    return number // 2


def halve_any(number, *, noisy=False):
    return number / 2


def test_native_comes_first():
    """Where the native way holds, the fallback is not asked."""
    halve = native_first(halve_even, lambda number: pytest.fail("asked"))
    assert halve(4) == 2
    assert halve.fallbacks == {}


def test_what_is_not_supported_goes_to_the_fallback_visibly(caplog):
    """Each reason is counted, and logged at debug level."""
    halve = native_first(halve_even, halve_any)
    with caplog.at_level(logging.DEBUG, "dspex"):
        assert [halve(3), halve(3), halve(5)] == [1.5, 1.5, 2.5]
    assert halve.fallbacks == {"3 is odd": 2, "5 is odd": 1}
    assert caplog.messages == [f"halve_even falls back: {k} is odd" for k in (3, 3, 5)]


@pytest.mark.parametrize(("number", "noisy", "error"), [(4, True, DataError), ("4", False, TypeError)])
def test_a_users_error_never_leads_to_the_fallback(number, noisy, error):
    """What the user got wrong is raised as it is, ours or Python's."""
    halve = native_first(halve_even, lambda *args, **kwargs: pytest.fail("asked"))
    with pytest.raises(error):
        halve(number, noisy=noisy)
    assert halve.fallbacks == {}


def test_a_failing_fallback_is_its_own_failure():
    """The fallback's error does not drag along that the native way was not supported."""
    halve = native_first(halve_even, lambda number: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        halve(3)
    assert caught.value.__context__ is None
