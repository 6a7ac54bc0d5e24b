"""From what the user points at to a config and a checked plan, before any model is built."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert4albert.checkpoint.dialects import CANONICAL, Dialect, detect_dialect
from bert4albert.checkpoint.formats.arrays import Arrays, NumpyArchive
from bert4albert.checkpoint.formats.pytorch import open_pytorch
from bert4albert.checkpoint.formats.safe_tensors import SafeTensors
from bert4albert.checkpoint.formats.selected import Selected
from bert4albert.checkpoint.formats.sharded import Sharded
from bert4albert.checkpoint.formats.tensor_file import TensorFile
from bert4albert.checkpoint.formats.tf_bundle import TFBundle
from bert4albert.checkpoint.load import LoadPlan, plan_loading
from bert4albert.checkpoint.vocabulary_rows import VocabularyRows
from bert4albert.config import HEADS, ModelConfig
from bert4albert.config_keys import guess_family, read_config
from bert4albert.errors import CheckpointError, ConfigError, require_choice, require_whole
from bert4albert.finding import find_checkpoint, find_config, model_folder, no_such_model
from bert4albert.sharing import Schedule, parse_schedule, unshared_schedule

MODELS = ("albert", "albert_unshared", "bert")

_PYTORCH = (".bin", ".pt", ".pth")
_BY_SUFFIX = {".safetensors": SafeTensors, ".npz": NumpyArchive, **dict.fromkeys(_PYTORCH, open_pytorch)}


@dataclass(frozen=True)
class Source:
    """A config and the checkpoint it belongs to.

    Attributes:
        values: the config's JSON object, as found.
        name: what to call the config in messages.
        file: the open checkpoint; None for random weights.
        dialect: whose names it uses.
    """

    values: Mapping[str, Any]
    name: str
    file: TensorFile | None
    dialect: Dialect | None


def open_source(
    config: str | os.PathLike[str] | Mapping[str, Any],
    checkpoint: Any = None,
    prefix: str = "",
    ignore: Sequence[str] = (),
) -> Source:
    """Find and open what the arguments `config`, `checkpoint`, `prefix` and `ignore` of `build_model` mean."""
    if not isinstance(config, Mapping) and isinstance(config, (str, os.PathLike)):
        folder = model_folder(config)
        if folder is not None:
            config, checkpoint = find_config(folder), folder if checkpoint is None else checkpoint
        elif not os.path.exists(config):
            raise no_such_model(config)
    values, name = read_config(config)
    if checkpoint is None:
        return Source(values, name, None, None)
    file = open_checkpoint(checkpoint)
    if prefix or ignore:
        file = Selected(file, prefix, ignore)
    model_type = values.get("model_type", values.get("family"))
    return Source(values, name, file, detect_dialect(file.tensors, file.path, model_type))


def open_checkpoint(checkpoint: str | os.PathLike[str] | Mapping[str, Any]) -> TensorFile:
    """Open a checkpoint of any supported kind.

    Arguments:
        checkpoint: a `.safetensors`, `.bin` or `.npz` file, the `.index.json` of a sharded one, the prefix of a
            TensorFlow checkpoint (its `.index` and `.data-*` file names work too), a folder that holds one of
            these, the name of a model that comes with the package, or named arrays.

    Returns:
        The open file. Raises `CheckpointError` if there is none or it cannot be read.

    Examples:
        >>> import numpy as np
        >>> from bert4albert.checkpoint import open_checkpoint
        >>> np.savez("weights.npz", **{"pooler/dense/kernel": np.ones((3, 4), "float16")})
        >>> file = open_checkpoint("weights.npz")
        >>> file.tensors["pooler/dense/kernel"]
        TensorInfo(dtype='float16', shape=(3, 4))
        >>> file.read("pooler/dense/kernel").dtype
        dtype('float32')
    """
    if isinstance(checkpoint, Mapping):
        return Arrays(checkpoint)
    if not isinstance(checkpoint, (str, os.PathLike)):
        kind = type(checkpoint).__name__
        raise CheckpointError(f"checkpoint must be a path or a dict of arrays, not {kind}: {checkpoint!r:.80}.")
    folder = model_folder(checkpoint)
    path = Path(checkpoint) if folder is None else find_checkpoint(folder)
    if path.name.endswith(".index.json"):
        return Sharded(path, _open_file)
    return _open_file(path)


def _open_file(path: Path) -> TensorFile:
    if path.suffix in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix](path)
    return TFBundle(path.with_name(path.name.removesuffix(".index").split(".data-")[0]))


def resolve(
    source: Source,
    model: str | None = None,
    sharing: Any = None,
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Sequence[Any] | None = None,
    fresh_heads: bool = False,
    **overrides: Any,
) -> tuple[ModelConfig, LoadPlan | None]:
    """Settle the model's config, and plan how its weights are loaded.

    Arguments:
        source: the config and the checkpoint.
        model: as for `build_model`.
        sharing: as for `build_model`.
        keep_tokens: as for `build_model`.
        compound_tokens: as for `build_model`.
        fresh_heads: as for `build_model`.
        overrides: config keys to replace; None leaves a key as it is.

    Returns:
        The config, and the plan (None without a checkpoint), not yet checked. Raises `ConfigError` or
        `CheckpointError`.
    """
    rows = _vocabulary(source, overrides.get("vocab_size"), keep_tokens, compound_tokens)
    settings = _settings_of(model, sharing, source)
    reduced = {"vocab_size": rows.size, "keep_tokens": keep_tokens, "compound_tokens": compound_tokens}
    config = ModelConfig.from_dict(source.values, source.name, **{**settings, **overrides, **reduced})
    if model == "albert_unshared" and config.sharing != unshared_schedule(config.sharing.depth):
        raise ConfigError("model='albert_unshared' and sharing=... say two things; pass model='albert' with sharing.")
    if source.file is None or source.dialect is None:
        return config, None
    plan = plan_loading(
        source.file,
        source.dialect,
        config,
        _sharing_of_file(source, config),
        rows,
        fresh_heads=fresh_heads,
        fresh_adapters=not (source.values.get("depth_lora") or source.values.get("depth_bias")),
    )
    if isinstance(source.file, Selected):
        source.file.check(plan.report.missing.values())
    return config, plan


def heads_in(source: Source) -> dict[str, Any]:
    """Return the settings that give a model all the heads its checkpoint holds."""
    assert source.file is not None
    assert source.dialect is not None
    return {head.key: source.dialect.finds(head.weights[-1], source.file.tensors) for head in HEADS.values()}


def _sharing_of_file(source: Source, config: ModelConfig) -> Schedule:
    """Return the schedule of the file's blocks: our own files may have any, others have groups."""
    own = config.own_schedule
    return parse_schedule(source.values.get("sharing"), own) if source.dialect is CANONICAL else own


def _settings_of(model: str | None, sharing: Any, source: Source) -> dict[str, Any]:
    """What the choice of model and the file's names decide in the config."""
    if model is not None:
        require_choice("model", model, MODELS)
    settings: dict[str, Any] = {"sharing": "unshared" if model == "albert_unshared" and sharing is None else sharing}
    asked = None if model is None else model.removesuffix("_unshared")
    own = guess_family(source.values)
    if source.dialect is None or source.file is None:
        return settings | {"family": asked or own}
    family = source.dialect.family or own
    if asked is not None and (asked == "albert") != (family == "albert"):
        found = source.dialect.found_in(source.file.tensors)
        remedy = "'albert' or 'albert_unshared'" if family == "albert" else "'bert'"
        raise CheckpointError(
            f"{source.file.path} is {family.upper()} (found {found}). "
            f"You asked for model={model!r}. Use model={remedy}."
        )
    return settings | {"family": family, **_settings_of_file(source.file, source.dialect, source.values)}


def _settings_of_file(file: TensorFile, dialect: Dialect, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the file's names decide: how words reach the hidden size, and groups that the config does not count."""
    projected = dialect.projects_words or dialect.finds("embeddings/projection/kernel", file.tensors)
    embeddings = {
        "projected_words": projected,
        "embedding_mapping": not projected and dialect.finds("embeddings/mapping/bias", file.tensors),
    }
    if "num_hidden_groups" in values or dialect.family != "albert":
        return embeddings
    groups, inner = dialect.groups_in(file.tensors)
    return embeddings | {"num_hidden_groups": groups, "inner_group_num": values.get("inner_group_num", inner)}


def _vocabulary(
    source: Source,
    size: Any,
    keep_tokens: Sequence[int] | None,
    compound_tokens: Sequence[Any] | None,
) -> VocabularyRows:
    """How the model's rows follow from the file's; a config that remembers a reduction is reduced already."""
    size = source.values.get("vocab_size") if size is None else size
    require_whole("vocab_size", size, 1, source=source.name)
    asked = {"keep_tokens": keep_tokens, "compound_tokens": compound_tokens}
    remembered = {key: source.values[key] for key in asked if source.values.get(key) is not None}
    if not remembered:
        return VocabularyRows(size, keep_tokens, compound_tokens)
    for key, value in asked.items():
        if value is not None and list(value) != remembered.get(key):
            raise ConfigError(f"{source.name} was saved with another {key}, already applied; leave {key} out.")
    return VocabularyRows(size)
