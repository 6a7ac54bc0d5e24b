"""Task: what all tasks have in common, from reading data to a saved folder."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from bert4albert import tasks
from bert4albert.batches import make_dataset, predict_in_buckets
from bert4albert.checkpoint.formats.tensor_file import require_finite
from bert4albert.compression import CompressionReport
from bert4albert.errors import ConfigError, DataError, did_you_mean
from bert4albert.files import reading, writing
from bert4albert.model import Trunk, trunk_of
from bert4albert.tasks.compress import compressed_task
from bert4albert.tasks.saved import (
    CONFIG_FILE,
    TASK_FILE,
    VOCABULARIES,
    WEIGHTS_FILE,
    as_json,
    read_saved,
    task_json,
)
from bert4albert.text import Tokenizer
from bert4albert.training import Evaluator, MovingAverage, adversarial_model, default_optimizer, seeded_dropout
from bert4albert.training.between import between_optimizer

Data = str | os.PathLike[str] | Sequence[Any]


class Task(ABC):
    """A trunk under the head of a task, which trains on examples and answers raw texts.

    An *example* is what a data set holds (text and answer), a *text* is what `predict` is given (no answer).
    Each task defines:

    - `metric`: the entry of `evaluate` that picks the best weights; larger is better.
    - `loss`: what `keras.Model.compile` takes as loss.
    - `settings()`: the constructor's keyword arguments as JSON values, so that `cls(backbone, tokenizer,
      **settings)` is the same task again.
    - `read_file(path)`: the examples of a file.
    - `learn(examples)`: take from the training set what the head needs to be built (labels), where it was not given.
    - `check(examples)`: raise `DataError` for examples that cannot be used, such as a label that is not known;
      called for every data set before anything is computed.
    - `build_model()`: the trunk under the head; its outputs are logits, or whatever `loss` takes.
    - `text_of(example)`: the text of an example, as `predict` takes it.
    - `encode(texts)`: tokenise. Called once for each data set; what it returns is passed to the next two.
    - `columns(examples, encoded)`: the columns `(inputs, targets)` or `(inputs, targets, sample_weight)` to
      train on, as `bert4albert.text.Batches` takes them. A task that draws its training data anew each epoch
      overrides `dataset` instead.
    - `decode(encoded, batch_size, **options)`: the answers, one a text; `options` are those of `predict`.
    - `score(examples, answers)`: metrics by name, as Python floats.

    Arguments:
        backbone: a trunk from `build_model`.
        tokenizer: the `Tokenizer` that belongs to it.
        maxlen: the most tokens of an input, [CLS] and [SEP] included; longer texts are cut.
    """

    metric: str
    loss: Any

    def __init__(self, backbone: Trunk, tokenizer: Tokenizer, *, maxlen: int = 128) -> None:
        self.backbone = trunk_of(backbone)
        self.tokenizer = tokenizer
        self.maxlen = maxlen
        self._model: keras.Model | None = None
        self._seed = 0
        config = self.backbone.config
        if tokenizer.vocab_size > config.vocab_size:
            raise ConfigError(
                f"The tokenizer has {tokenizer.vocab_size} tokens and the model {config.vocab_size} word embeddings; "
                "use the vocabulary that came with the checkpoint."
            )
        if maxlen > config.max_length:
            raise ConfigError(
                f"maxlen={maxlen}, but the model has {config.max_length} positions; "
                "choose a smaller maxlen, or build the model with hierarchical_position=True."
            )

    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments as JSON values."""
        return {"maxlen": self.maxlen}

    @abstractmethod
    def read_file(self, path: str | os.PathLike[str]) -> list[Any]:
        """Return the examples of a data file."""

    def learn(self, examples: Sequence[Any]) -> None:  # noqa: B027  (not every task learns from them)
        """Take from the training set what is needed to build the head."""

    def check(self, examples: Sequence[Any]) -> None:  # noqa: B027  (not every task is strict)
        """Raise `DataError` for examples that cannot be used."""

    @abstractmethod
    def build_model(self) -> keras.Model:
        """Return the trunk under a new head."""

    @abstractmethod
    def text_of(self, example: Any) -> Any:
        """Return the text of an example, as `predict` takes it."""

    @abstractmethod
    def encode(self, texts: Sequence[Any]) -> Any:
        """Tokenise texts."""

    @abstractmethod
    def columns(self, examples: Sequence[Any], encoded: Any) -> tuple:
        """Return inputs and targets, and weights where there are any, as `Batches` takes them."""

    @abstractmethod
    def decode(self, encoded: Any, *args: Any, **options: Any) -> list[Any]:
        """Return one answer for each encoded text."""

    @abstractmethod
    def score(self, examples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
        """Return the metrics of answers to examples."""

    @property
    def model(self) -> keras.Model:
        """The trunk under the head: a plain Keras model, built when it is first needed and never compiled."""
        if self._model is None:
            self._model = self.build_model()
        return self._model

    def initializer(self) -> keras.initializers.Initializer:
        """Return the initializer of all layers of the head: the trunk's, seeded by `fit(seed=...)`."""
        # A SeedGenerator moves on with each draw, so that layers of one shape do not start equal.
        generator = keras.random.SeedGenerator(self._seed)
        return keras.initializers.TruncatedNormal(self.backbone.config.initializer_range, seed=generator)

    def dataset(self, examples: Sequence[Any], encoded: Any, batch_size: int, seed: int) -> Any:
        """Return what `keras.Model.fit` trains on; its `len` is the number of batches of an epoch."""
        return make_dataset(
            *self.columns(examples, encoded), batch_size=batch_size, seed=seed, maxlen=self.backbone.config.max_length
        )

    def run(self, model: keras.Model, inputs: Any, batch_size: int = 32) -> Any:
        """Return a model's outputs as NumPy arrays, in order, computed over batches of similar length.

        Arguments:
            model: `self.model`, or another model that shares layers with it.
            inputs: columns of inputs, as `Batches` takes them.
            batch_size: rows a batch.
        """
        return predict_in_buckets(model, inputs, batch_size=batch_size, maxlen=self.backbone.config.max_length)

    def fit(
        self,
        train: Data,
        valid: Data | None = None,
        *,
        epochs: int = 5,
        batch_size: int = 32,
        learning_rate: Any = None,
        warmup: float = 0.1,
        weight_decay: float = 0.01,
        layer_decay: float = 1.0,
        accumulate: int = 1,
        optimizer: keras.optimizers.Optimizer | None = None,
        ema: float | None = None,
        adversarial: float | None = None,
        unshare_at: Mapping[Any, Any] | None = None,
        sharing_decay: float | None = None,
        early_stopping: int | None = None,
        seed: int = 0,
        jit_compile: bool | str = "auto",
        verbose: int | str = "auto",
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> dict[str, list[float]]:
        """Train on examples.

        Arguments:
            train: examples, or the path of a data file.
            valid: examples or a path; with them, each epoch ends with `evaluate`, and training with the weights
                of the epoch that had the best `metric`.
            epochs: how often to go through the training set.
            batch_size: examples a batch.
            learning_rate: the highest learning rate, or a Keras schedule; by default what the backbone's
                card recommends, else 1e-4 for a hidden size of up to 512, 3e-5 above.
            warmup: the part of all steps in which the rate rises from 0; afterwards it falls linearly to 0.
            weight_decay: of AdamW; biases and norms have none.
            layer_decay: the rate of each depth relative to that above it; 1 for one rate. A shared block has
                the mean of the rates of its depths.
            accumulate: batches whose gradients are averaged for one step.
            optimizer: a Keras optimizer, in place of AdamW with the settings above.
            ema: keep a moving average of the weights with this momentum (0.999), and evaluate and end with it.
            adversarial: FGM: the size of the step against the gradient of the word embeddings (0.5).
            unshare_at: step -> sharing, such as {0: "shared", 0.5: "unshared"}: `GradualUnsharing`; whole numbers are
                steps, fractions between 0 and 1 parts of all steps.
            sharing_decay: how strongly copies are pulled toward their mean: `SharingDecay`.
            early_stopping: stop after this many epochs without a better `metric`.
            seed: of the head's first weights, of the order of the examples and of dropout; no global state.
            jit_compile: as in `keras.Model.compile`; True pays off from about 1,000 examples on.
            verbose: as in `keras.Model.fit`.
            callbacks: more Keras callbacks.

        Returns:
            The loss and the metrics of each epoch, by name. Raises `DataError` for examples that cannot be used.
            Where Ctrl-C ends the training early, the best weights so far are in place.
        """
        if early_stopping is not None and valid is None:
            raise ConfigError("early_stopping needs a metric, and so a data set to evaluate on: pass valid=...")
        if optimizer is not None and (learning_rate, layer_decay, accumulate) != (None, 1.0, 1):
            raise ConfigError("optimizer takes the place of learning_rate, layer_decay and accumulate: set them in it.")
        examples = self.read(train)
        if self._model is None:
            self._seed = seed
            self.learn(examples)
        self.check(examples)
        judge = None if valid is None else self._judge(valid, batch_size)
        dataset = self.dataset(examples, self.encode([self.text_of(e) for e in examples]), batch_size, seed)
        if optimizer is None:
            learning_rate = self.backbone.card.choose("learning_rate", learning_rate, None, quiet=verbose == 0)
            optimizer = default_optimizer(
                self.backbone,
                len(dataset) * epochs,
                learning_rate,
                warmup=warmup,
                weight_decay=weight_decay,
                layer_decay=layer_decay,
                accumulate=accumulate,
            )
        optimizer = between_optimizer(optimizer, self.backbone, len(dataset) * epochs, unshare_at, sharing_decay)
        average = None if ema is None else MovingAverage(optimizer, ema)
        model = self._trained_model(adversarial)
        self._compile(model, average or optimizer, jit_compile)
        evaluators = [] if judge is None else [Evaluator(judge, self.metric, early_stopping, average)]
        options = {"epochs": epochs, "verbose": verbose, "callbacks": [*evaluators, *callbacks]}
        try:
            # The datasets shuffle; fit would do it once more, by Keras' global seed.
            with seeded_dropout(model, seed):
                return model.fit(dataset, shuffle=False, **options).history
        except KeyboardInterrupt:
            for evaluator in evaluators:
                evaluator.restore_best()
            raise

    def _trained_model(self, adversarial: float | None) -> keras.Model:
        """Return a model on the layers of `self.model` that may be compiled, so that this one never is."""
        if adversarial is None:
            return keras.Model(self.model.input, self.model.output)
        return adversarial_model(self.model, self.backbone.embeddings.word.embeddings, adversarial)

    def _compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, jit_compile: bool | str) -> None:
        half = self.backbone.encoder.compute_dtype == "float16"
        # Keras looks at the model's own policy only, which is not the trunk's.
        if half and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, self.loss, jit_compile=jit_compile, auto_scale_loss=False)

    def evaluate(self, data: Data, batch_size: int = 32, **options: Any) -> dict[str, float]:
        """Return the metrics on examples.

        Arguments:
            data: examples, or the path of a data file.
            batch_size: texts a batch.
            options: those of `predict`.

        Returns:
            Metrics by name. Raises `DataError` for examples that cannot be used.
        """
        return self._judge(data, batch_size, **options)()

    def predict(self, texts: Sequence[Any], batch_size: int = 32, **options: Any) -> list[Any]:
        """Return one answer for each text, in order.

        Arguments:
            texts: a list of texts.
            batch_size: texts a batch.
            options: those of the task's `decode`.

        Returns:
            A list as long as `texts`. Raises `DataError` for texts that cannot be used.
        """
        if isinstance(texts, str):
            raise DataError(f"predict takes a list of texts, not one: use predict([{texts[:20]!r}]).")
        texts = list(texts)
        return self.decode(self.encode(texts), batch_size=batch_size, **options) if texts else []

    def compress(self, rank: int | str = 8, texts: Any = None) -> tuple[Self, CompressionReport]:
        """Return a task whose unshared trunk is written as one shared block and a low-rank update for each depth.

        Arguments:
            rank: as in `compress_depths`; or a share of answers such as '99%': the smallest of 1, 2, 4, 8, 16, 32 ...
                that keeps as many answers to `texts` the same.
            texts: texts as `predict` takes them, or examples as `evaluate` does, or the path of a data file: the report
                then says how many answers stay the same, and for examples the metrics before and after.

        Returns:
            (a new task, the report of `compress_depths`); this task stays as it is. Raises `ConfigError` where no rank
            keeps so many answers.
        """
        return compressed_task(self, rank, texts)

    def read(self, data: Data) -> list[Any]:
        """Return examples as a list, from a file where `data` is a path. Raises `DataError` if there are none."""
        examples = self.read_file(data) if isinstance(data, str | os.PathLike) else list(data)
        if not examples:
            raise DataError("There are no examples: give at least one.")
        return examples

    def save(self, folder: str | os.PathLike[str], *, allow_nonfinite: bool = False) -> None:
        """Write weights, config, tokenizer and settings to a folder, which `load` needs and nothing else.

        Arguments:
            folder: made if it does not exist; what an earlier `save` left there is replaced as a whole, and stays
                as it was if this one fails. Other files in it are kept.
            allow_nonfinite: save weights that are NaN or infinite too, such as to look into them; `load` refuses them.

        Raises `DataError` where a weight is not finite, or the folder cannot be written.
        """
        model = self.model
        if not allow_nonfinite:
            for weight in model.weights:
                require_finite(weight.path, np.asarray(ops.convert_to_numpy(weight)), DataError)
        policy = self.backbone.encoder.dtype_policy
        task = task_json(type(self).__name__, self.settings(), policy, self.tokenizer)
        with writing(folder, outdated=VOCABULARIES) as new:
            (new / TASK_FILE).write_text(task, encoding="utf-8")
            (new / CONFIG_FILE).write_text(as_json(self.backbone.config.to_dict()), encoding="utf-8")
            self.tokenizer.write_files(new)
            model.save_weights(new / WEIGHTS_FILE)

    def export(
        self,
        path: str | os.PathLike[str],
        format: str = "onnx",
        quantize: str | None = None,
        texts: Sequence[Any] | None = None,
        *,
        min_agreement: float = 0.99,
    ) -> float:
        """Write the task as a program that answers where there is no Keras, and try it.

        Arguments:
            path: a folder, made or replaced as a whole; an earlier one stays if this fails.
            format: 'saved_model' for TensorFlow, 'onnx' for onnxruntime, 'litert' for LiteRT. Any batch, any length up
                to the model's positions; weights shared between depths are written once.
            quantize: 'int8' for weights in whole numbers, a quarter of the size.
            texts: texts to run the program on; by default sentences that come with the package.
            min_agreement: the part of them that must have the task's own answer.

        Returns:
            That part, which is printed too. `bert4albert.serving.load(path)` opens the folder. Raises `ExportError`
            for a task, a format or a backend that cannot be exported, or where the program does not agree.
        """
        from bert4albert.export import export_task

        return export_task(self, path, format, quantize, texts, min_agreement)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dtype: Any = None) -> Self:
        """Return the task that `save` wrote to a folder, on any backend.

        Arguments:
            folder: the folder.
            dtype: a dtype policy in place of that of the saved task.

        Returns:
            The task. Raises `DataError` if the folder holds none, a damaged one, or another task than this class.
        """
        folder = Path(folder)
        with reading(folder):
            saved = read_saved(folder)
            if cls is not Task and saved.task != cls.__name__:
                raise DataError(f"{folder} holds a {saved.task}, not a {cls.__name__}: use load_task(folder).")
            task_class: type[Self] = _task_class(saved.task, folder) if cls is Task else cls
            tokenizer = saved.tokenizer()
            trunk = Trunk(saved.config, dtype=saved.dtype if dtype is None else dtype)
            try:
                task = task_class(trunk, tokenizer, **saved.settings)
            except (TypeError, ValueError) as error:
                raise saved.unusable(error) from error
            saved.refuse_larger(task.build_model)
            try:
                task.model.load_weights(folder / WEIGHTS_FILE)
            except (OSError, ValueError, KeyError) as error:
                raise DataError(f"{folder / WEIGHTS_FILE} does not hold this task's weights: {error}") from error
        return task

    def _judge(self, data: Data, batch_size: int, **options: Any) -> Any:
        """Return a function that evaluates on this data, which is read and tokenised only once."""
        examples = self.read(data)
        self.check(examples)
        encoded = self.encode([self.text_of(example) for example in examples])
        return lambda: self.score(examples, self.decode(encoded, batch_size=batch_size, **options))


def load_task(folder: str | os.PathLike[str], dtype: Any = None) -> Any:
    """Return the task, of whatever class, that `Task.save` wrote to a folder; arguments as in `Task.load`."""
    return Task.load(folder, dtype)


def _task_class(name: Any, folder: Path) -> Any:
    found = getattr(tasks, str(name), None)
    if isinstance(found, type) and issubclass(found, Task):
        return found
    hint = did_you_mean(str(name), tasks.__all__)
    raise DataError(f"{folder} holds a task {name!r} that this version does not have.{hint} Use the class's own load.")
