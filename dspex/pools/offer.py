"""Has joblib know the backend ``dspex`` as soon as both have been imported, in whichever order."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

NAME = "dspex"


def offer() -> None:
    """Have joblib know this backend: now, or when it is imported."""
    if "joblib" in sys.modules:
        _register(sys.modules["joblib"])
    elif not any(isinstance(each, _Watch) for each in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


def _register(joblib: ModuleType) -> None:
    register = getattr(joblib, "register_parallel_backend", None)
    if register is not None:  # else it is being imported just now, and too far from done
        register(NAME, _make)


def _make(**options: Any) -> Any:
    from dspex.pools.joblib_backend import DspexBackend

    return DspexBackend(**options)


class _Watch:
    """Sees joblib being imported, once, and steps aside."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Find joblib where it is, and have it followed by our registration."""
        if name != "joblib":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader)  # type: ignore[assignment]  # one, but for 12 ms of imports
        return spec


class _Then:
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _register(module)
