"""What a checkpoint is, found from its names and shapes alone: no tensor is read and no model built."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert4albert.checkpoint import open_checkpoint
from bert4albert.checkpoint.dialects import Dialect, detect_dialect
from bert4albert.checkpoint.formats.tensor_file import TensorFile
from bert4albert.checkpoint.load import LoadReport
from bert4albert.checkpoint.names import count_parameters, weight_shapes
from bert4albert.checkpoint.resolve import Source, heads_in, open_source, resolve
from bert4albert.config import ModelConfig
from bert4albert.errors import ConfigError
from bert4albert.files import reading
from bert4albert.finding import find_config, model_folder

_SIZES = {
    "vocab_size": ("embeddings/word/embeddings", 0),
    "embedding_size": ("embeddings/word/embeddings", 1),
    "hidden_size": ("encoder/block_0/intermediate/kernel", 0),
    "intermediate_size": ("encoder/block_0/intermediate/kernel", 1),
    "max_position_embeddings": ("embeddings/position/embeddings", 0),
    "type_vocab_size": ("embeddings/segment/embeddings", 0),
}
_ONLY_IN_CONFIGS = ("num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps")


@dataclass(frozen=True)
class Inspection:
    """What `bert4albert inspect` shows.

    Attributes:
        source: the checkpoint and its config; without a config file the sizes come from the shapes.
        config: the model that holds all the file's heads, shared as the file shares.
        report: what fits and what does not, from names and shapes.
        call: the `build_model` call to write.
    """

    source: Source
    config: ModelConfig
    report: LoadReport
    call: str

    @property
    def has_config(self) -> bool:
        """Whether a config file was found; without one the depth and the heads are not known."""
        return self.source.name != ""

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        assert self.source.file is not None
        config, report = self.config, self.report
        keys = [*_SIZES, *_ONLY_IN_CONFIGS] if self.has_config else list(_SIZES)
        unshared = config.replace(sharing="unshared")
        return {
            "checkpoint": str(self.source.file.path),
            "config": self.source.name or None,
            "dialect": report.dialect,
            "family": config.family,
            "sizes": {key: getattr(config, key) for key in keys},
            "blocks": config.num_blocks,
            "block_applications": len(config.sharing) if self.has_config else None,
            "heads": [head for head in ("with_pool", "with_nsp", "with_mlm") if getattr(config, head)],
            "parameters": count_parameters(weight_shapes(config).values()),
            "parameters_unshared": count_parameters(weight_shapes(unshared).values()) if self.has_config else None,
            "exempt": dict(Counter(report.exempt.values())),
            "problems": report.problems(),
            "call": self.call,
        }


def open_path(path: str | os.PathLike[str], config: str | os.PathLike[str] | None = None) -> Source:
    """Open a model by one path: a folder, a model's name, or a checkpoint with its config beside it.

    Arguments:
        path: what to open.
        config: the config file; None to look for one in the checkpoint's folder.

    Returns:
        The open source. Raises `ConfigError` or `CheckpointError`.
    """
    folder = model_folder(path)
    if folder is not None:
        return open_source(config or folder, folder)
    return open_source(config or _config_beside(Path(path)), path)


def inspect(path: str | os.PathLike[str], config: str | os.PathLike[str] | None = None) -> Inspection:
    """Look at a checkpoint.

    Arguments:
        path: as for `open_path`.
        config: as for `open_path`; here none need be found.

    Returns:
        What was found. Raises `ConfigError` or `CheckpointError` for a file that is of no known kind.

    Examples:
        >>> from bert4albert.checkpoint.inspection import inspect
        >>> found = inspect("albert_tiny_zh")
        >>> found.report.dialect, found.config.hidden_size, found.call
        ('Hugging Face Albert', 312, 'build_model("albert_tiny_zh")')
    """
    with reading(path, config):
        folder = model_folder(path)
        file = open_checkpoint(folder or path)
        if config is None:
            try:
                config = find_config(folder) if folder else _config_beside(Path(path))
            except ConfigError:
                dialect = detect_dialect(file.tensors, file.path)
                source = Source(_config_from_shapes(file, dialect), "", file, dialect)
                return _inspection(source, f'build_model("the model\'s config.json", "{os.fspath(path)}")')
        source = open_source(config, folder or path)
        whole = folder is not None and Path(config).parent in (folder, folder / "assets")
        return _inspection(source, f'build_model("{path}")' if whole else f'build_model("{config}", "{path}")')


def _inspection(source: Source, call: str) -> Inspection:
    config, plan = resolve(source, **heads_in(source))
    assert plan is not None
    return Inspection(source, config, plan.report, call)


def _config_beside(checkpoint: Path) -> Path:
    folder = checkpoint.parent
    return find_config(folder.parent if folder.name == "variables" else folder)


def _config_from_shapes(file: TensorFile, dialect: Dialect) -> Mapping[str, Any]:
    """Return the sizes that the shapes tell, with one layer for each group, since the depth is not in them."""
    values: dict[str, Any] = {}
    for key, (weight, axis) in _SIZES.items():
        stored = dialect.stored_as(weight)
        shape = file.tensors[stored.name].shape if stored is not None and stored.name in file.tensors else ()
        if len(shape) == 2:
            values[key] = shape[1 - axis if stored is not None and stored.transposed else axis]
    groups, inner = dialect.groups_in(file.tensors)
    return values | {
        "family": dialect.family or "albert",
        "num_hidden_layers": groups,
        "num_hidden_groups": groups,
        "inner_group_num": inner,
        "num_attention_heads": 1,
    }
