"""Builds the optional module in C: for wheels as hatchling's hook, in place as a script.

Where a tool is missing nothing is built, and that is said: dspex does the same without it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # as a script it does without
    BuildHookInterface = object

PACKAGE = Path("dspex/bridge/compiled")
MODULE = "_watching"
TOOLS_ARE_MISSING = 3
"""The script's exit status when there is nothing to build with."""


def missing_tool() -> str | None:
    """Name the first thing that building needs and that is not there."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    for name in ("Cython", "setuptools"):
        if importlib.util.find_spec(name) is None:
            return f"the Python package {name}"
    if sys.platform != "win32" and shutil.which(compiler) is None:
        return f"a C compiler ('{compiler}')"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return None if header.exists() else f"Python's headers ('{header}')"


def build(root: Path, target: Path) -> Path:
    """Compile the module into a folder and return its file."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / f"{MODULE}.pyx"
        shutil.copy(root / PACKAGE / source.name, source)
        # A place of its own, since setuptools would read the settings of the project it stands in.
        command = [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "-3", source.name]
        subprocess.run(command, cwd=place, check=True, stdout=sys.stderr)
        (made,) = Path(place).glob(f"{MODULE}*{sysconfig.get_config_var('EXT_SUFFIX')}")
        target.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(made, target))


class NativeHook(BuildHookInterface):
    """Puts the module into wheels. An editable installation stays in Python until ``make native``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and let the wheel be for this Python and platform alone."""
        if version == "editable":
            return
        missing = missing_tool()
        if missing is not None:
            self.app.display_warning(f"dspex is built without its module in C, for want of {missing}")
            return
        try:
            made = build(Path(self.root), Path(self.root) / "build" / "native")
        except (subprocess.CalledProcessError, ValueError) as error:
            self.app.display_warning(f"dspex is built without its module in C: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(made)] = str(PACKAGE / made.name)


def main() -> None:
    """Build into the folder named, or beside the source."""
    root = Path(__file__).parent
    missing = missing_tool()
    if missing is not None:
        print(f"nothing is built, for want of {missing}")
        sys.exit(TOOLS_ARE_MISSING)
    print(build(root, Path(sys.argv[1]) if len(sys.argv) > 1 else root / PACKAGE))


if __name__ == "__main__":
    main()
