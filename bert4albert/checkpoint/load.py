"""Fill a model from a checkpoint: every weight exactly once, every tensor of the file accounted for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bert4albert.checkpoint.dialects import Dialect, Stored
from bert4albert.checkpoint.formats.tensor_file import FLOATS, TensorFile
from bert4albert.checkpoint.names import in_other_block, weight_shapes
from bert4albert.checkpoint.report import LoadReport
from bert4albert.checkpoint.vocabulary_rows import VocabularyRows
from bert4albert.config import ModelConfig
from bert4albert.errors import CheckpointError
from bert4albert.sharing import blocks_to_fill, grouped_schedule

_HEADS = {
    "pooler/": "the pooler, which the model was built without",
    "sentence/": "the sentence head, which the model was built without",
    "masked_lm": "the masked-LM head, which the model was built without",
}
_EXEMPT = {
    r"/(adam|lamb)_[mv]$": "optimizer state",
    r"^global_step$": "training progress",
}
_VOCABULARY_WEIGHTS = ("embeddings/word/embeddings", "masked_lm/bias")


@dataclass
class LoadPlan:
    """Which tensor fills which weights; made from names and shapes alone, before any model is built.

    Attributes:
        config: the model's config.
        sources: weight -> how the tensor that fills it is stored.
        repeats: (tensor, how the weight that it must equal is stored).
        report: what fits and what does not.
    """

    file: TensorFile
    rows: VocabularyRows
    config: ModelConfig
    report: LoadReport
    sources: dict[str, Stored] = field(default_factory=dict)
    repeats: list[tuple[str, Stored]] = field(default_factory=list)

    def check(self) -> None:
        """Raise one `CheckpointError` that lists everything that does not fit."""
        if self.report.complete:
            return
        raise CheckpointError(
            f"{self.file.path} ({self.report.dialect}) does not fit the model: {self.report.problems()}. "
            f"{self._remedy()}"
        )

    @property
    def fills_everything(self) -> bool:
        """Whether no weight of the model is left to start at random."""
        return self.sources.keys() == weight_shapes(self.config).keys()

    def read(self, weight: str) -> np.ndarray:
        """Return the value of one weight, as float32 or float64. Raises `CheckpointError` if it cannot be read."""
        stored = self.sources[weight]
        array = self.file.read(stored.name)
        array = array.T if stored.transposed else array
        return self.rows.apply(array) if weight in _VOCABULARY_WEIGHTS else array

    def check_repeats(self) -> None:
        """Raise `CheckpointError` where a tensor that must repeat another one does not."""
        for name, tied in self.repeats:
            if not np.array_equal(self.file.read(name), self.file.read(tied.name)):
                raise CheckpointError(
                    f"{self.file.path}: {name} differs from {tied.name}, to which the models built here tie it; "
                    "the file belongs to a model with untied weights, which this package does not build."
                )

    def fill(self, variables: Mapping[str, Any]) -> LoadReport:
        """Read each tensor once and assign it to the weights it fills.

        Arguments:
            variables: canonical name -> Keras variable.

        Returns:
            The report. Raises `CheckpointError` if a tensor cannot be read.
        """
        from keras import ops  # here, since plans are made without a backend too

        self.check_repeats()
        filled_by: dict[str, list[str]] = {}
        for weight, stored in self.sources.items():
            filled_by.setdefault(stored.name, []).append(weight)
            self.report.filled[weight] = stored.name
        # The largest first: smaller ones then fit where the largest have left memory free.
        for name in sorted(filled_by, key=lambda name: -self.file.tensors[name].num_bytes):
            weights = filled_by[name]
            tensor = ops.convert_to_tensor(np.ascontiguousarray(self.read(weights[0])))
            for weight in weights:
                # A buffer of its own for each variable: on JAX, training gives its variables' buffers away.
                variables[weight].assign(ops.copy(tensor))
            del tensor  # before the next one is read: never two at a time
        return self.report

    def _remedy(self) -> str:
        heads = [w for w in self.report.missing if w.startswith(tuple(_HEADS))]
        misfits = self.report.mis_shaped or self.report.mis_typed
        if heads and len(heads) == len(self.report.missing) and not misfits:
            return "Leave the head out, or pass fresh_heads=True to start it at random."
        if misfits and not self.report.missing:
            return "Pass the config that belongs to this checkpoint."
        return (
            "Pass the config that belongs to this checkpoint, or strict=False to load what fits and read load_report."
        )


def plan_loading(
    file: TensorFile,
    dialect: Dialect,
    config: ModelConfig,
    rows: VocabularyRows,
    fresh_heads: bool = False,
) -> LoadPlan:
    """Match the weights of `config` with the tensors of a file.

    Arguments:
        file: the open checkpoint.
        dialect: whose names it uses.
        config: the model's config.
        rows: how the model's vocabulary follows from the file's.
        fresh_heads: whether heads that the file lacks may start at random.

    Returns:
        The plan; its report says what is missing, unexpected or mis-shaped. Raises `CheckpointError` for a
        file of an architecture that is known and not built here.
    """
    _refuse_grouped_dense(file)
    plan = LoadPlan(file, rows, config, LoadReport(str(file.path), dialect.title))
    whole = _config_of_file(config, rows)
    stored, shapes = dialect.names(whole), weight_shapes(whole)
    blocks = blocks_to_fill(config.sharing, whole.sharing)
    for weight in weight_shapes(config):
        source = in_other_block(weight, blocks)
        entry = stored.get(source, Stored(source))
        if entry.name not in file.tensors:
            _note_missing(plan.report, weight, entry.name, fresh_heads)
        elif _fits(plan.report, file, entry, shapes[source]):
            plan.sources[weight] = entry
    known = {entry.name: weight for weight, entry in stored.items()}
    used = {entry.name for entry in plan.sources.values()}
    for name in file.tensors:
        tied = stored.get(dialect.repeats.get(name, ""))
        if name in used or name in plan.report.mis_shaped or name in plan.report.mis_typed:
            continue
        if tied is not None and tied.name in file.tensors:
            if _fits(plan.report, file, Stored(name), file.tensors[tied.name].shape):
                plan.report.exempt[name] = f"a repetition of {tied.name}"
                plan.repeats.append((name, tied))
            continue
        reason = _why_exempt(name, dialect, known)
        if reason is None:
            plan.report.unexpected.append(name)
        else:
            plan.report.exempt[name] = reason
    return plan


def _config_of_file(config: ModelConfig, rows: VocabularyRows) -> ModelConfig:
    """The config of the model as the file has it: its own sharing, whole vocabulary, all heads."""
    return config.replace(
        sharing=grouped_schedule(config.num_hidden_layers, config.num_hidden_groups, config.inner_group_num),
        vocab_size=rows.file_size,
        with_pool="tanh",
        with_nsp=True,
        with_mlm="softmax",
    )


def _fits(report: LoadReport, file: TensorFile, entry: Stored, shape: tuple[int, ...]) -> bool:
    found = file.tensors[entry.name]
    needed = tuple(reversed(shape)) if entry.transposed else shape
    if found.shape != needed:
        report.mis_shaped[entry.name] = (found.shape, needed)
    elif found.dtype not in FLOATS:
        report.mis_typed[entry.name] = found.dtype
    return found.shape == needed and found.dtype in FLOATS


def _note_missing(report: LoadReport, weight: str, name: str, fresh_heads: bool) -> None:
    if fresh_heads and weight.startswith(tuple(_HEADS)):
        report.fresh.append(weight)
    else:
        report.missing[weight] = name


def _why_exempt(name: str, dialect: Dialect, known: Mapping[str, str]) -> str | None:
    for pattern, reason in {**_EXEMPT, **dialect.exempt}.items():
        if re.search(pattern, name):
            return reason
    for prefix, reason in _HEADS.items():
        if known.get(name, "").startswith(prefix):
            return reason
    return None


def _refuse_grouped_dense(file: TensorFile) -> None:
    for name, info in file.tensors.items():
        if name.endswith("/kernel") and len(info.shape) == 3:
            raise CheckpointError(
                f"{file.path}: {name} has three dimensions {info.shape}, the grouped dense layers of the "
                "*_google_fast models; this package does not build them, use the model of the same size without _fast."
            )
