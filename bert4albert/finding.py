"""Finding a model's files: in a folder, or by the name of a model that comes with the package."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bert4albert.errors import CheckpointError, ConfigError, did_you_mean

PRETRAINED = Path(__file__).resolve().parent / "pretrained"

# The first pattern that is there decides; transformers looks in the same order.
_CHECKPOINTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "*.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "*.index",
    "variables/variables.index",
    "model.npz",
)
_CONFIGS = ("config.json", "*config*.json", "assets/*config*.json")
_NOT_CONFIGS = ("tokenizer_config.json", "generation_config.json")
_VOCABULARIES = ("vocab.txt", "spiece.model", "tokenizer.json")
_LIKE_VOCABULARIES = ("*vocab*.txt", "*.model", "assets/*vocab*.txt", "assets/*.model")


def model_folder(name: str | os.PathLike[str]) -> Path | None:
    """Return the folder that `name` means: a path, or the name of a model that comes with the package."""
    if os.path.isdir(name):
        return Path(name)
    inside = PRETRAINED / name
    if not os.path.exists(name) and inside.parent == PRETRAINED and inside.is_dir():
        return inside
    return None


def pretrained_names() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(folder.name for folder in PRETRAINED.glob("*/") if (folder / "config.json").is_file())


def no_such_model(name: str | os.PathLike[str]) -> ConfigError:
    """Return the error for a config path that leads nowhere."""
    known = pretrained_names()
    hint = did_you_mean(os.fspath(name), known) or (f" Models by name: {', '.join(known)}." if known else "")
    return ConfigError(f"There is no config file or model folder at {os.fspath(name)}.{hint}")


def find_config(folder: Path) -> Path:
    """Return the model's config in a folder. Raises `ConfigError` if there is none, or more than one."""
    found = _first(folder, _CONFIGS, _NOT_CONFIGS)
    if len(found) != 1:
        raise ConfigError(f"{folder} holds {_listed(found, 'no config')}; pass the model's JSON file itself.")
    return found[0]


def find_checkpoint(folder: Path) -> Path:
    """Return the checkpoint in a folder. Raises `CheckpointError` if there is none, or more than one."""
    found = _first(folder, _CHECKPOINTS)
    if len(found) != 1:
        raise CheckpointError(
            f"{folder} holds {_listed(found, 'no checkpoint')}; pass the one to load as checkpoint=..., "
            "or only the config for random weights."
        )
    return found[0]


def find_vocabularies(folder: Path) -> list[Path]:
    """Return the vocabulary in a folder by its usual name, or all files that may be one; [] if there is none."""
    usual = _first(folder, _VOCABULARIES)
    return usual or sorted(path for pattern in _LIKE_VOCABULARIES for path in folder.glob(pattern) if path.is_file())


def _first(folder: Path, patterns: Iterable[str], without: Iterable[str] = ()) -> list[Path]:
    for pattern in patterns:
        found = sorted(path for path in folder.glob(pattern) if path.is_file() and path.name not in without)
        if found:
            return found
    return []


def _listed(found: list[Path], nothing: str) -> str:
    return ", ".join(path.name for path in found[:5]) or nothing
