"""Fill a model from a checkpoint: every weight exactly once, every tensor of the file accounted for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bert4albert.checkpoint.dialects import Dialect, Stored
from bert4albert.checkpoint.formats.selected import patterns_for
from bert4albert.checkpoint.formats.tensor_file import FLOATS, TensorFile
from bert4albert.checkpoint.names import Shape, depths_of, head_of, in_copies, is_adapter, weight_shapes
from bert4albert.checkpoint.vocabulary_rows import VocabularyRows
from bert4albert.config import HEADS, ModelConfig
from bert4albert.errors import CheckpointError, printable
from bert4albert.sharing import Schedule

_EXEMPT = {
    r"/(adam|lamb)_[mv]$": "optimizer state",
    r"^global_step$": "training progress",
}
_SHOWN = 12
_VOCABULARY_WEIGHTS = ("embeddings/word/embeddings", "masked_lm/bias")
_UNTIED = (
    "differs from {tied}, to which the models built here tie it; the file belongs to a model with untied weights, "
    "which this package does not build."
)
_APART = (
    "differs from {tied}, and the model would use one copy at depths {depths}, for which the checkpoint holds "
    "different weights; pass sharing='unshared', or a schedule that keeps these depths apart."
)


@dataclass
class LoadReport:
    """What loading did; print it for a short table.

    Attributes:
        source: the file.
        dialect: whose names it uses.
        filled: model weight -> the tensor it was filled from.
        fresh: weights of heads that the file lacks and that were allowed to start at random.
        missing: model weight -> the tensor the file should have for it.
        mis_shaped: tensor -> (shape in the file, shape that the model needs).
        mis_typed: tensor -> its dtype, which is not that of a weight.
        exempt: tensor -> why it is not needed.
        unexpected: tensors that nothing accounts for.
    """

    source: str
    dialect: str
    filled: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    mis_shaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    mis_typed: dict[str, str] = field(default_factory=dict)
    exempt: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every weight was filled and every tensor accounted for."""
        return not (self.missing or self.mis_shaped or self.mis_typed or self.unexpected)

    @property
    def tensors(self) -> dict[str, str]:
        """What became of each tensor of the file: 'used', 'exempt: why', or what is wrong."""
        return {
            **dict.fromkeys(self.filled.values(), "used"),
            **{name: f"exempt: {why}" for name, why in self.exempt.items()},
            **dict.fromkeys(self.mis_shaped, "mis-shaped"),
            **dict.fromkeys(self.mis_typed, "mis-typed"),
            **dict.fromkeys(self.unexpected, "unexpected"),
        }

    def problems(self) -> str:
        """Return everything that does not fit, in one sentence; empty if all fits."""
        shapes = [
            f"{name} has shape {found} in the file and needs shape {needed}"
            for name, (found, needed) in self.mis_shaped.items()
        ]
        parts = {
            "missing": sorted(set(self.missing.values())),
            "wrong shape:": shapes,
            "wrong dtype:": [f"{name} holds {dtype}, not floats" for name, dtype in self.mis_typed.items()],
            "unexpected": self.unexpected,
        }
        return "; ".join(f"{what} {_listed(names)}" for what, names in parts.items() if names)

    def __str__(self) -> str:
        rows = [f"{self.source} ({self.dialect})"]
        rows.append(f"  {len(self.filled):5} weights filled from {len(set(self.filled.values()))} tensors")
        if self.fresh:
            rows.append(f"  {len(self.fresh):5} weights fresh: {_listed(self.fresh)}")
        rows += [f"  {count:5} tensors exempt: {why}" for why, count in Counter(self.exempt.values()).items()]
        rows += [f"        {part}" for part in self.problems().split("; ") if part]
        return "\n".join(map(printable, rows))


class Equal(NamedTuple):
    """A tensor that must equal another one for the model to compute what the file does.

    Attributes:
        name: the first tensor.
        tied: the second one.
        otherwise: what to say where they differ, after the name of the first.
    """

    name: str
    tied: str
    otherwise: str


@dataclass
class LoadPlan:
    """Which tensor fills which weights; made from names and shapes alone, before any model is built.

    Attributes:
        config: the model's config.
        sources: weight -> how the tensor that fills it is stored.
        equal: tensors that must be equal.
        report: what fits and what does not.
    """

    file: TensorFile
    rows: VocabularyRows
    config: ModelConfig
    report: LoadReport
    sources: dict[str, Stored] = field(default_factory=dict)
    equal: list[Equal] = field(default_factory=list)

    def check(self) -> None:
        """Raise one `CheckpointError` that lists everything that does not fit."""
        if self.report.complete:
            return
        raise CheckpointError(
            f"{self.file.path} ({self.report.dialect}) does not fit the model: {self.report.problems()}. "
            f"{self._remedy()}"
        )

    def check_equal(self) -> None:
        """Raise `CheckpointError` where a tensor that must equal another one does not."""
        for pair in self.equal:
            if not np.array_equal(self.file.read(pair.name), self.file.read(pair.tied)):
                raise CheckpointError(f"{self.file.path}: {pair.name} {pair.otherwise}")

    @property
    def fills_everything(self) -> bool:
        """Whether no weight of the model starts at random, but for adapters, which then add nothing."""
        return all(weight in self.sources or is_adapter(weight) for weight in weight_shapes(self.config))

    def read(self, weight: str) -> np.ndarray:
        """Return the value of one weight, as float32 or float64. Raises `CheckpointError` if it cannot be read."""
        stored = self.sources[weight]
        array = self.file.read(stored.name)
        array = array.T if stored.transposed else array
        return self.rows.apply(array) if weight in _VOCABULARY_WEIGHTS else array

    def arrays(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """Read each tensor once.

        Returns:
            An iterator of (the weights it fills, their value); never two tensors are held at a time. Raises
            `CheckpointError` if one cannot be read.
        """
        filled_by: dict[str, list[str]] = {}
        for weight, stored in self.sources.items():
            filled_by.setdefault(stored.name, []).append(weight)
        # The largest first: smaller ones then fit where the largest have left memory free.
        for name in sorted(filled_by, key=lambda name: -self.file.tensors[name].num_bytes):
            weights = filled_by[name]
            self.report.filled |= dict.fromkeys(weights, name)
            yield weights, np.ascontiguousarray(self.read(weights[0]))

    def _remedy(self) -> str:
        only_heads = all(head_of(weight) for weight in self.report.missing)
        misfits = self.report.mis_shaped or self.report.mis_typed
        if self.report.missing and only_heads and not misfits:
            return "Leave the head out, or pass fresh_heads=True to start it at random."
        if any(map(is_adapter, self.report.unexpected)):
            return "Load it with its own config, whose depth_lora and depth_bias it needs; merge_depths removes them."
        if misfits and not self.report.missing:
            return "Pass the config that belongs to this checkpoint."
        if self.report.unexpected and not (self.report.missing or misfits):
            others = self.file.tensors.keys() - set(self.report.unexpected)
            patterns = patterns_for(self.report.unexpected, others)
            return f"To load it without them: build_model(..., ignore={patterns!r})."
        return (
            "Pass the config that belongs to this checkpoint, or strict=False to load what fits and read load_report."
        )


def plan_loading(
    file: TensorFile,
    dialect: Dialect,
    config: ModelConfig,
    file_sharing: Schedule,
    rows: VocabularyRows,
    *,
    fresh_heads: bool = False,
    fresh_adapters: bool = False,
) -> LoadPlan:
    """Match the weights of `config` with the tensors of a file.

    Arguments:
        file: the open checkpoint.
        dialect: whose names it uses.
        config: the model's config.
        file_sharing: the schedule by which the file's blocks are used.
        rows: how the model's vocabulary follows from the file's.
        fresh_heads: whether heads that the file lacks may start at random.
        fresh_adapters: whether what depths add to their weights is new, and starts at nothing.

    Returns:
        The plan; its report says what is missing, unexpected or mis-shaped. Raises `CheckpointError` for a
        file of an architecture that is known and not built here.
    """
    _refuse_grouped_dense(file)
    plan = LoadPlan(file, rows, config, LoadReport(str(file.path), dialect.title))
    whole = _config_of_file(config, file_sharing, rows)
    stored, shapes = dialect.names(whole), weight_shapes(whole)
    copies = config.sharing.sources(file_sharing)
    for weight, shape in weight_shapes(config).items():
        first, *others = (stored.get(name, Stored(name)) for name in in_copies(weight, copies))
        absent = [entry.name for entry in (first, *others) if entry.name not in file.tensors]
        if absent:
            if (fresh_heads and head_of(weight)) or (fresh_adapters and is_adapter(weight)):
                plan.report.fresh.append(weight)
            else:
                plan.report.missing[weight] = absent[0]
            continue
        needed = shapes.get(weight, shape)  # in the file's vocabulary; blocks are alike
        if all([_fits(plan.report, file, entry, needed) for entry in (first, *others)]):
            plan.sources[weight] = first
            depths = depths_of(weight, config.sharing)
            plan.equal += [Equal(o.name, first.name, _APART.format(tied=first.name, depths=depths)) for o in others]
    _account_for_the_rest(plan, dialect, stored)
    return plan


def _account_for_the_rest(plan: LoadPlan, dialect: Dialect, stored: Mapping[str, Stored]) -> None:
    """Say of each tensor that fills nothing why that is right, or that it is unexpected."""
    file, report = plan.file, plan.report
    known = {entry.name: weight for weight, entry in stored.items()}
    done = {entry.name for entry in plan.sources.values()} | report.mis_shaped.keys() | report.mis_typed.keys()
    done |= {pair.name for pair in plan.equal}
    report.exempt |= {pair.name: f"equal to {pair.tied}" for pair in plan.equal}
    for name in file.tensors:
        if name in done:
            continue
        tied = stored.get(dialect.repeats.get(name, ""))
        if tied is not None and tied.name in file.tensors:
            if _fits(report, file, Stored(name), file.tensors[tied.name].shape):
                report.exempt[name] = f"a repetition of {tied.name}"
                plan.equal.append(Equal(name, tied.name, _UNTIED.format(tied=tied.name)))
            continue
        reason = _why_exempt(name, dialect, known)
        if reason is None:
            report.unexpected.append(name)
        else:
            report.exempt[name] = reason


def _config_of_file(config: ModelConfig, file_sharing: Schedule, rows: VocabularyRows) -> ModelConfig:
    """The config of the model as the file has it: its own sharing, whole vocabulary, all heads."""
    heads = {head.key: head.value for head in HEADS.values()}
    return config.replace(sharing=file_sharing, vocab_size=rows.file_size, **heads)


def _fits(report: LoadReport, file: TensorFile, entry: Stored, shape: Shape) -> bool:
    found, needed = file.tensors[entry.name], entry.oriented(shape)
    if found.shape != needed:
        report.mis_shaped[entry.name] = (found.shape, needed)
    elif found.dtype not in FLOATS:
        report.mis_typed[entry.name] = found.dtype
    return found.shape == needed and found.dtype in FLOATS


def _why_exempt(name: str, dialect: Dialect, known: Mapping[str, str]) -> str | None:
    for pattern, reason in {**_EXEMPT, **dialect.exempt}.items():
        if re.search(pattern, name):
            return reason
    head = head_of(known.get(name, ""))
    return None if head is None else f"{head.title}, which the model was built without"


def _refuse_grouped_dense(file: TensorFile) -> None:
    for name, info in file.tensors.items():
        if name.endswith("/kernel") and len(info.shape) == 3:
            raise CheckpointError(
                f"{file.path}: {name} has three dimensions {info.shape}, the grouped dense layers of the "
                "*_google_fast models; this package does not build them, use the model of the same size without _fast."
            )


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
