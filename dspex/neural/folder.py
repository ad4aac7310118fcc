"""Model folders: what must be there before a worker tries to load one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from dspex.errors import DefinitionError

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.*")
_HOW = (
    "save one with model.save_pretrained(folder) and tokenizer.save_pretrained(folder), or download one whole"
)


def checked(path: str | Path) -> Path:
    """Return the folder of a model as an absolute path.

    Raises
    ------
    DefinitionError
        If it is not there, is no model's, or if what loads models is not installed.
    """
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise DefinitionError(
            f"local models need {' and '.join(missing)}", hint="install with: pip install 'dspex[neural]'"
        )
    folder = Path(path).expanduser().resolve()
    if not folder.exists():
        raise DefinitionError(f"there is no folder {str(path)!r}", hint=_HOW)
    failures = _failures(folder)
    if failures:
        raise DefinitionError(
            "\n".join([f"{str(path)!r} is not a model's folder:", *(f"  - {each}" for each in failures)]),
            hint=_HOW,
        )
    return folder


def _failures(folder: Path) -> list[str]:
    if not folder.is_dir():
        return ["it is a file"]
    wanted = {
        "config.json": ("config.json",),
        f"weights ({' or '.join(_WEIGHTS)})": _WEIGHTS,
        f"tokenizer ({', '.join(_TOKENIZERS)})": _TOKENIZERS,
    }
    return [
        f"it has no {what}"
        for what, patterns in wanted.items()
        if not any(True for pattern in patterns for _ in folder.glob(pattern))
    ]
