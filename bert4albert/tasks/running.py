"""A run of `Task.fit`: its arguments, what it is told from other runs by, and its course."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from bert4albert.errors import ConfigError
from bert4albert.files import reserved
from bert4albert.tasks.example import Columns, Data, Example
from bert4albert.tasks.task_card import training_facts
from bert4albert.training import (
    Evaluator,
    FiniteNumbers,
    MovingAverage,
    RunState,
    adversarial_model,
    default_optimizer,
    seeded_dropout,
    usable_afterwards,
)
from bert4albert.training.between import between_optimizer

if TYPE_CHECKING:
    from bert4albert.tasks.task import Task


@dataclass(frozen=True)
class Arguments:
    """The arguments of `Task.fit` that decide what comes out of it, explained there."""

    epochs: int
    batch_size: int
    learning_rate: Any
    warmup: float
    weight_decay: float
    layer_decay: float
    accumulate: int
    optimizer: keras.optimizers.Optimizer | None
    ema: float | None
    adversarial: float | None
    unshare_at: Mapping[Any, Any] | None
    sharing_decay: float | None
    early_stopping: int | None
    seed: int

    def check(self, has_valid: bool, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Raise `ConfigError` for arguments that contradict each other."""
        if self.early_stopping is not None and not has_valid:
            raise ConfigError("early_stopping needs a metric, and so a data set to evaluate on: pass valid=...")
        if self.optimizer is not None and (self.learning_rate, self.layer_decay, self.accumulate) != (None, 1.0, 1):
            raise ConfigError("optimizer takes the place of learning_rate, layer_decay and accumulate: set them in it.")
        if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in callbacks):
            raise ConfigError(
                "BackupAndRestore forgets the order of the data, dropout and the best weights so far, and would go on "
                "with others: use fit(..., resume='folder')."
            )

    def make_optimizer(
        self, task: Task, steps: int, callbacks: Sequence[keras.callbacks.Callback], quiet: bool
    ) -> keras.optimizers.Optimizer:
        """Return the optimizer of a training of so many batches."""
        # Keras cannot set a rate that a schedule sets.
        kinds = keras.callbacks.ReduceLROnPlateau | keras.callbacks.LearningRateScheduler
        constant = any(isinstance(callback, kinds) for callback in callbacks)
        optimizer = self.optimizer or default_optimizer(
            task.backbone,
            None if constant else steps,
            task.backbone.card.choose("learning_rate", self.learning_rate, None, quiet=quiet),
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay,
            accumulate=self.accumulate,
        )
        return between_optimizer(optimizer, task.backbone, steps, self.unshare_at, self.sharing_decay)

    def facts(self, task: Task, train: Sequence[Example], valid: Sequence[Example] | None) -> dict[str, Any]:
        """Return what a run is made of, by name, as JSON values: it goes on only with the same."""
        return {
            "task": type(task).__name__,
            **task.settings(),
            "model": task.backbone.config.to_dict(),
            "dtype": task.backbone.encoder.dtype_policy.name,
            "backend": keras.backend.backend(),
            "train": _digest(train),
            "valid": None if valid is None else _digest(valid),
            **{field.name: _described(getattr(self, field.name)) for field in fields(self)},
        }


def run_fit(
    task: Task,
    train: Data,
    valid: Data | None,
    columns: Columns | None,
    arguments: Arguments,
    resume: str | os.PathLike[str] | None,
    jit_compile: bool | str,
    verbose: int | str,
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, list[float]]:
    """Train a task, from the start or from where the folder `resume` says, and return its history."""
    arguments.check(valid is not None, callbacks)
    examples = task.examples(train, columns)
    judged = None if valid is None else task.examples(valid, columns)
    facts = arguments.facts(task, examples, judged)
    task.begin(examples, arguments.seed)
    task.check(examples)
    evaluator = None if judged is None else _evaluator(task, judged, arguments)
    with nullcontext() if resume is None else reserved(Path(resume)):
        run = None if resume is None else RunState(resume, facts, task.model, evaluator)
        history: dict[str, list[float]] = {}
        if run is None or not run.finished:
            history = _fit(task, examples, arguments, evaluator, run, jit_compile, verbose, callbacks)
        else:
            run.restore()
    history = history if run is None else run.history
    task.training_facts = training_facts(examples, judged, history, task.metric)
    return history


def _fit(
    task: Task,
    examples: Sequence[Example],
    arguments: Arguments,
    evaluator: Evaluator | None,
    run: RunState | None,
    jit_compile: bool | str,
    verbose: int | str,
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, list[float]]:
    """Train, and return the history of Keras."""
    first_epoch = 0 if run is None else run.epoch
    encoded = task.encode([example.text for example in examples])
    dataset = task.dataset(examples, encoded, arguments.batch_size, arguments.seed, first_epoch=first_epoch)
    optimizer = arguments.make_optimizer(task, len(dataset) * arguments.epochs, callbacks, quiet=verbose == 0)
    average = None if arguments.ema is None else MovingAverage(optimizer, arguments.ema)
    model = _trained_model(task, arguments.adversarial)
    _compile(model, task, average or optimizer, jit_compile)
    watching: list[keras.callbacks.Callback] = [FiniteNumbers(first_epoch * len(dataset))]
    if evaluator is not None:
        evaluator.average = average
        watching.append(evaluator)
    with (
        usable_afterwards(task.model, evaluator.restore_best if evaluator is not None else lambda: None),
        seeded_dropout(model, arguments.seed),
    ):
        history = model.fit(
            dataset,
            initial_epoch=first_epoch,
            epochs=run.epoch if run is not None and run.stopped else arguments.epochs,
            verbose=verbose,
            callbacks=[*watching, *callbacks, *([] if run is None else [run])],
            shuffle=False,  # The datasets shuffle; fit would do it once more, by Keras' global seed.
        ).history
    if run is not None:
        run.finish()
    return history


def _evaluator(task: Task, examples: Sequence[Example], arguments: Arguments) -> Evaluator:
    """Return what evaluates on these examples after each epoch; their texts are tokenised only once."""
    task.check(examples)
    encoded = task.encode([example.text for example in examples])
    dataset, batch_size = None, arguments.batch_size
    if task.example_of_row(encoded) != []:
        dataset = task.dataset(examples, encoded, batch_size, seed=0, shuffle=False, bucket=True)
    return Evaluator(
        lambda: task.score(examples, task.decode(encoded, batch_size=batch_size)),
        task.metric,
        arguments.early_stopping,
        dataset=dataset,
    )


def _trained_model(task: Task, adversarial: float | None) -> keras.Model:
    """Return a model on the layers of `task.model` that may be compiled, so that this one never is."""
    if adversarial is None:
        return keras.Model(task.model.input, task.model.output)
    return adversarial_model(task.model, task.backbone.embeddings.word.embeddings, adversarial)


def _compile(model: keras.Model, task: Task, optimizer: keras.optimizers.Optimizer, jit_compile: bool | str) -> None:
    half = task.backbone.encoder.compute_dtype == "float16"
    # Keras looks at the model's own policy only, which is not the trunk's.
    if half and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, task.loss, jit_compile=jit_compile, auto_scale_loss=False)
    # Built inside the first step, the optimizer makes TensorFlow trace that step a second time, for seconds.
    model.optimizer.build(model.trainable_variables)


def _digest(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(example[:3]).encode("utf-8", "surrogatepass"))
    return f"{len(examples)} examples, {digest.hexdigest()[:16]}"


def _described(value: Any) -> Any:
    if isinstance(value, keras.optimizers.Optimizer | keras.optimizers.schedules.LearningRateSchedule):
        return keras.saving.serialize_keras_object(value)
    return value if isinstance(value, int | float | str | None) else repr(value)
