"""A shell to type into."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def shell(runtime) -> Iterator[InteractiveShell]:
    """Make a terminal-less IPython shell with the magics loaded."""
    config = Config()
    config.HistoryManager.enabled = False
    main = sys.modules["__main__"]
    made = InteractiveShell.instance(config=config)
    made.run_line_magic("load_ext", "dspex")
    made.user_ns.clear()
    made.init_user_ns()
    yield made
    made.run_line_magic("unload_ext", "dspex")
    InteractiveShell.clear_instance()
    # A shell makes up a main module of its own, from which no process can be started.
    sys.modules["__main__"] = main
