import pytest

from dspex.errors import UnknownNameError
from dspex.pools import make_pool
from dspex.pools.inline import InlinePool


def test_pool_by_name():
    """A pool is made by its name, with as many workers as asked for."""
    pool = make_pool("inline", 3)
    assert isinstance(pool, InlinePool)
    assert (pool.name, pool.workers, repr(pool)) == ("inline", 3, "<InlinePool: 3 threads of this process>")
    pool.close()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("inlin", "unknown pool 'inlin'; known: inline\n  → did you mean 'inline'?"),
        ("gpu", "unknown pool 'gpu'; known: inline\n  → use one of the pools listed above"),
    ],
)
def test_unknown_pool_names_the_nearest(kind, message):
    """A pool that is not there is refused with the ones that are."""
    with pytest.raises(UnknownNameError) as caught:
        make_pool(kind, 1)
    assert str(caught.value) == message
