"""Task: what all tasks have in common, from reading data to a saved folder."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, Self

import keras

from bert4albert.batches import check_token_ids, make_dataset, predict_in_buckets
from bert4albert.compression import CompressionReport
from bert4albert.errors import ConfigError
from bert4albert.model import Trunk, trunk_of
from bert4albert.tasks.compress import compressed_task
from bert4albert.tasks.data_reader import DataReader
from bert4albert.tasks.example import (
    Columns,
    Data,
    Example,
    combined_weights,
)
from bert4albert.tasks.running import Arguments, run_fit
from bert4albert.tasks.saved import load_saved, save_task
from bert4albert.text import Tokenizer

_BUILDING = RLock()


class Task(DataReader):
    """A trunk under the head of a task, which trains on examples and answers raw texts.

    An *example* is what a data set holds (text and answer), a *text* is what `predict` is given. Each task defines:

    - `metric`: the entry of `evaluate` that picks the best weights; larger is better.
    - `loss`: what `keras.Model.compile` takes as loss.
    - `fields`: the names of the parts of an example, in data that has names.
    - `settings()`: the constructor's keyword arguments as JSON values, so that `cls(backbone, tokenizer,
      **settings)` is the same task again.
    - `answer(value, text, place)`: the answer of an example, checked, in the form that the rest works with.
    - `text(value, place)`: the same for a text, where that is not one string.
    - `learn(examples)`: take from the training set what the head needs to be built (labels), where it was not given.
    - `check(examples)`: raise `DataError` for examples that cannot be used, such as a label that is not known;
      called for every data set before anything is computed.
    - `build_model()`: the trunk under the head; its outputs are logits, or whatever `loss` takes.
    - `encode(texts)`: tokenise. Called once for each data set; what it returns is passed to the next two.
    - `columns(examples, encoded)`: the columns `(inputs, targets)` or `(inputs, targets, sample_weight)` to
      train on, as `bert4albert.text.Batches` takes them.
    - `target_padding`: what rows of targets of different lengths are filled up with.
    - `decode(encoded, batch_size, **options)`: the answers, one a text; `options` are those of `predict`.
    - `score(examples, answers)`: metrics by name, as Python floats.

    Data is a list, a generator, a NumPy array, a pandas `DataFrame` or `Series`, a `datasets.Dataset`, or the path of
    a file: .tsv, .csv, .jsonl, .json or .parquet, compressed with gzip (.gz) or not. Where it has names, `columns`
    says which of them are the parts of an example, as `{"text": "review", "label": "stars"}`: ours to theirs. A part
    `weight` weighs an example in the loss.

    Arguments:
        backbone: a trunk from `build_model`.
        tokenizer: the `Tokenizer` that belongs to it.
        maxlen: the most tokens of an input, [CLS] and [SEP] included; longer texts are cut.

    Examples:
        Every task trains, measures and answers in the same way; here with an untrained head, to be short:

        >>> from bert4albert import Tokenizer, build_model
        >>> from bert4albert.tasks import TextClassifier
        >>> backbone, tokenizer = build_model("albert_tiny_zh"), Tokenizer("albert_tiny_zh")
        >>> task = TextClassifier(backbone, tokenizer, labels=["bad", "good"])
        >>> sorted(task.evaluate([("很好", "good"), ("不好", "bad")]))
        ['accuracy', 'macro_f1']
        >>> len(task.predict(["很好", "不好"]))
        2
    """

    metric: str
    loss: Any
    target_padding: float = 0

    def __init__(self, backbone: Trunk, tokenizer: Tokenizer, *, maxlen: int = 128) -> None:
        super().__init__()
        self.backbone = trunk_of(backbone)
        self.tokenizer = tokenizer
        self.maxlen = maxlen
        self._model: keras.Model | None = None
        self._seed = 0
        self.training_facts: dict[str, Any] = {}
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

    def learn(self, examples: Sequence[Any]) -> None:
        """Take from the training set what is needed to build the head."""

    def check(self, examples: Sequence[Any]) -> None:
        """Raise `DataError` for examples that cannot be used."""

    @abstractmethod
    def build_model(self) -> keras.Model:
        """Return the trunk under a new head."""

    @abstractmethod
    def encode(self, texts: Sequence[Any]) -> Any:
        """Tokenise texts."""

    @abstractmethod
    def columns(self, examples: Sequence[Any], encoded: Any) -> tuple[Any, ...]:
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
            with _BUILDING:  # Two threads that ask first must get one head.
                self._model = self._model or self.build_model()
        return self._model

    def begin(self, examples: Sequence[Example], seed: int) -> None:
        """Prepare for a first training: a head that is not yet built takes its labels and its seed from it."""
        if self._model is None:
            self._seed = seed
            self.learn(examples)

    def initializer(self) -> keras.initializers.Initializer:
        """Return the initializer of all layers of the head: the trunk's, seeded by `fit(seed=...)`."""
        # A SeedGenerator moves on with each draw, so that layers of one shape do not start equal.
        generator = keras.random.SeedGenerator(self._seed)
        return keras.initializers.TruncatedNormal(self.backbone.config.initializer_range, seed=generator)

    def dataset(self, examples: Sequence[Any], encoded: Any, batch_size: int, seed: int, **options: Any) -> Any:
        """Return what `keras.Model.fit` trains on; its `len` is the number of batches of an epoch.

        Arguments:
            examples: the examples.
            encoded: their texts, encoded.
            batch_size: rows a batch.
            seed: of the order of the rows.
            options: further arguments of `Batches`.
        """
        inputs, targets, *given = self.columns(examples, encoded)
        check_token_ids(inputs, self.backbone.config.vocab_size)
        weights = combined_weights(
            [self.example(example).weight for example in examples], self.example_of_row(encoded), *given
        )
        return make_dataset(
            inputs,
            targets,
            tuple(weights for _ in targets) if isinstance(targets, tuple) and weights is not None else weights,
            batch_size=batch_size,
            seed=seed,
            maxlen=self.backbone.config.max_length,
            target_padding=self.target_padding,
            **options,
        )

    def example_of_row(self, encoded: Any) -> Sequence[int] | None:
        """Return which example each row of `columns` is of; None where rows and examples are the same."""
        return None

    def run(self, model: keras.Model, inputs: Any, batch_size: int = 32) -> Any:
        """Return a model's outputs as NumPy arrays, in order, computed over batches of similar length.

        Arguments:
            model: `self.model`, or another model that shares layers with it.
            inputs: columns of inputs, as `Batches` takes them.
            batch_size: rows a batch.
        """
        check_token_ids(inputs, self.backbone.config.vocab_size)
        return predict_in_buckets(model, inputs, batch_size=batch_size, maxlen=self.backbone.config.max_length)

    def fit(
        self,
        train: Data,
        valid: Data | None = None,
        *,
        columns: Columns | None = None,
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
        resume: str | os.PathLike[str] | None = None,
    ) -> dict[str, list[float]]:
        """Train on examples.

        Arguments:
            train: examples, in any form that `Task` takes data in.
            valid: likewise; with them, each epoch ends with `evaluate`, and training with the weights
                of the epoch that had the best `metric`.
            columns: the names of the parts of an example in both data sets: ours to theirs.
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
            callbacks: more Keras callbacks. Where one of them sets the learning rate, as `ReduceLROnPlateau`, the
                rate is the same from the first step on until it does.
            resume: a folder for the state of the run, made if missing, written after each epoch. Where it holds a
                state, the run goes on from there, also with a new task, and ends as if it had never stopped; a run
                that had come to its end returns at once. What callbacks of your own remember is not kept.

        Returns:
            The loss and the metrics of each epoch, by name; those of `valid` also as `val_<name>`, with `val_loss`.
            Raises `ConfigError` for arguments that contradict each other or the run in `resume`, `DataError` for
            examples that cannot be used, and `TrainingError` where the loss or a weight is no longer a number. Where
            that or Ctrl-C ends the training early, the best weights so far are in place: those of the best epoch of
            `valid`, else those before the training after a `TrainingError`, else the latest.
        """
        arguments = Arguments(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            warmup=warmup,
            weight_decay=weight_decay,
            layer_decay=layer_decay,
            accumulate=accumulate,
            optimizer=optimizer,
            ema=ema,
            adversarial=adversarial,
            unshare_at=unshare_at,
            sharing_decay=sharing_decay,
            early_stopping=early_stopping,
            seed=seed,
        )
        return run_fit(self, train, valid, columns, arguments, resume, jit_compile, verbose, callbacks)

    def evaluate(
        self, data: Data, batch_size: int = 32, *, columns: Columns | None = None, **options: Any
    ) -> dict[str, float]:
        """Return the metrics on examples.

        Arguments:
            data: examples, in any form that `Task` takes data in.
            batch_size: texts a batch.
            columns: the names of the parts of an example: ours to theirs.
            options: those of `predict`.

        Returns:
            Metrics by name. Raises `DataError` for examples that cannot be used.
        """
        return self._judge(self.examples(data, columns), batch_size, **options)()

    def predict(
        self, texts: Data, batch_size: int = 32, *, columns: Columns | None = None, **options: Any
    ) -> list[Any]:
        """Return one answer for each text, in order.

        Arguments:
            texts: a list of texts, or any other form that `Task` takes data in, answers left out or not.
            batch_size: texts a batch.
            columns: the names of the parts of a text: ours to theirs.
            options: those of the task's `decode`.

        Returns:
            A list as long as `texts`. Raises `DataError` for texts that cannot be used.
        """
        found = self.texts(texts, columns)
        return self.decode(self.encode(found), batch_size=batch_size, **options) if found else []

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

    def save(self, folder: str | os.PathLike[str], *, allow_nonfinite: bool = False) -> None:
        """Write weights, config, tokenizer, settings and a README.md to a folder, which `load` needs and nothing else.

        Arguments:
            folder: made if it does not exist; what an earlier `save` left there is replaced as a whole, and stays
                as it was if this one fails. Other files in it are kept, also a README.md that no `save` wrote.
            allow_nonfinite: save weights that are NaN or infinite too, such as to look into them; `load` refuses them.

        Raises `DataError` where a weight is not finite or a file cannot be written, `ConfigError` if quantised.
        """
        save_task(self, folder, allow_nonfinite)

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
        return load_saved(Path(folder), None if cls is Task else cls, dtype)

    def _judge(self, examples: Sequence[Example], batch_size: int, **options: Any) -> Callable[[], dict[str, float]]:
        """Return a function that evaluates on these examples, which are tokenised only once."""
        self.check(examples)
        encoded = self.encode([example.text for example in examples])
        return lambda: self.score(examples, self.decode(encoded, batch_size=batch_size, **options))
