"""Fill a model from a checkpoint: every weight exactly once, every tensor of the file accounted for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bert4albert.checkpoint.dialects import Dialect, Stored
from bert4albert.checkpoint.files import TensorFile
from bert4albert.checkpoint.report import LoadReport
from bert4albert.checkpoint.vocabulary import VocabularyRows
from bert4albert.config import ModelConfig
from bert4albert.errors import CheckpointError
from bert4albert.sharing import blocks_to_fill, grouped_schedule
from bert4albert.weights import weight_shapes

_HEADS = {
    "pooler/": "the pooler, which the model was built without",
    "sentence/": "the sentence head, which the model was built without",
    "masked_lm": "the masked-LM head, which the model was built without",
}
_OPTIMIZER_SLOT = re.compile(r"/(adam|lamb)_[mv]$")
_VOCABULARY_WEIGHTS = ("embeddings/word/embeddings", "masked_lm/bias")


@dataclass
class LoadPlan:
    """Which tensor fills which weights; made from names and shapes alone, before any model is built.

    Attributes:
        sources: tensor name -> (how it is stored, the weights it fills).
        report: what fits and what does not.
    """

    file: TensorFile
    rows: VocabularyRows
    report: LoadReport
    sources: dict[str, tuple[Stored, list[str]]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise one `CheckpointError` that lists everything that does not fit."""
        if self.report.complete:
            return
        raise CheckpointError(
            f"{self.file.path} ({self.report.dialect}) does not fit the model: {self.report.problems()}. "
            f"{self._remedy()}"
        )

    def fill(self, variables: Mapping[str, Any]) -> LoadReport:
        """Read each tensor once and assign it to the weights it fills.

        Arguments:
            variables: canonical name -> Keras variable.

        Returns:
            The report. Raises `CheckpointError` if a tensor cannot be read.
        """
        for name, (stored, weights) in self.sources.items():
            array = self.file.read(name)
            array = array.T if stored.transposed else array
            if weights[0] in _VOCABULARY_WEIGHTS:
                array = self.rows.apply(array)
            for weight in weights:
                variables[weight].assign(np.ascontiguousarray(array))
                self.report.filled[weight] = name
        return self.report

    def _remedy(self) -> str:
        heads = [w for w in self.report.missing if w.startswith(tuple(_HEADS))]
        if heads and len(heads) == len(self.report.missing) and not self.report.mis_shaped:
            return "Leave the head out, or pass fresh_heads=True to start it at random."
        if self.report.mis_shaped and not self.report.missing:
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
        The plan; its report says what is missing, unexpected or mis-shaped.
    """
    plan = LoadPlan(file, rows, LoadReport(str(file.path), dialect.title))
    whole = _config_of_file(config, rows)
    stored, shapes = dialect.names(whole), weight_shapes(whole)
    for weight in weight_shapes(config):
        source = _weight_in_file(weight, config, whole)
        entry = stored.get(source, Stored(source))
        if entry.name not in file.tensors:
            _note_missing(plan.report, weight, entry.name, fresh_heads)
            continue
        found = file.tensors[entry.name].shape
        needed = tuple(reversed(shapes[source])) if entry.transposed else shapes[source]
        if found != needed:
            plan.report.mis_shaped[entry.name] = (found, needed)
        else:
            plan.sources.setdefault(entry.name, (entry, []))[1].append(weight)
    known = {entry.name: weight for weight, entry in stored.items()}
    for name in file.tensors:
        if name not in plan.sources and name not in plan.report.mis_shaped:
            reason = _why_exempt(name, known)
            if reason is None:
                plan.report.unexpected.append(name)
            else:
                plan.report.exempt[name] = reason
    return plan


def _config_of_file(config: ModelConfig, rows: VocabularyRows) -> ModelConfig:
    """The config of the model that the file holds: its own schedule, all of its vocabulary, every head."""
    return config.replace(
        sharing=grouped_schedule(config.num_hidden_layers, config.num_hidden_groups, config.inner_group_num),
        vocab_size=rows.file_size,
        with_pool="tanh",
        with_nsp=True,
        with_mlm="softmax",
    )


def _weight_in_file(weight: str, config: ModelConfig, whole: ModelConfig) -> str:
    match = re.match(r"encoder/block_(\d+)/", weight)
    if match is None:
        return weight
    block = blocks_to_fill(config.sharing, whole.sharing)[int(match[1])]
    return f"encoder/block_{block}/{weight[match.end() :]}"


def _note_missing(report: LoadReport, weight: str, name: str, fresh_heads: bool) -> None:
    if fresh_heads and weight.startswith(tuple(_HEADS)):
        report.fresh.append(weight)
    else:
        report.missing[weight] = name


def _why_exempt(name: str, known: Mapping[str, str]) -> str | None:
    if _OPTIMIZER_SLOT.search(name):
        return "optimizer state"
    if name == "global_step":
        return "training progress"
    for prefix, reason in _HEADS.items():
        if known.get(name, "").startswith(prefix):
            return reason
    return None
