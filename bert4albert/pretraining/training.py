"""The pretraining run: data, model, steps, checkpoints."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.build import build_model
from bert4albert.config import ModelConfig
from bert4albert.errors import ConfigError, DataError, TrainingError
from bert4albert.files import reserved
from bert4albert.model import Trunk
from bert4albert.pretraining.cooccurrence import cooccurrence_embeddings, log_frequencies
from bert4albert.pretraining.corpus import Paths
from bert4albert.pretraining.examples import Batch, Examples, Place, Prefetched
from bert4albert.pretraining.finishing import shrink_embeddings, store_in_half_precision
from bert4albert.pretraining.logs import RunLog, average
from bert4albert.pretraining.objective import Pretraining
from bert4albert.pretraining.optimizer import make_optimizer
from bert4albert.pretraining.recipe import Recipe
from bert4albert.pretraining.shards import Shards, tokenize_corpus
from bert4albert.pretraining.state import load_state, nonfinite, read_progress, save_state
from bert4albert.pretraining.teacher import Teacher, TeacherBatch
from bert4albert.save import save_hf
from bert4albert.text import Tokenizer

# The `x` and `y` of one training step.
Arguments = tuple[list[Any], list[Any]]

_STATE = "state.npz"
_VALIDATION_SEED = 1
# Batches of passages that the layer before the vectors is fitted on before the first step.
_FIRST_BATCHES = 50


def pretrain(
    corpus: Paths,
    vocabulary: str | os.PathLike[str] | Sequence[str],
    config: str | os.PathLike[str] | Mapping[str, Any],
    folder: str | os.PathLike[str],
    recipe: Recipe = Recipe(),  # noqa: B008
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    valid: Paths | None = None,
    teacher_vectors: str | os.PathLike[str] | None = None,
    teacher_texts: Paths | None = None,
    model: str | None = None,
    sharing: str | Sequence[int] | None = None,
    do_lower_case: bool = True,
    save_every: int = 200,
    log_every: int = 20,
    valid_batches: int = 50,
    tensorboard: bool = False,
    half: bool = False,
    workers: int | None = None,
) -> Trunk:
    r"""Pretrain a model on a corpus, or go on with a run that was interrupted.

    A run that was interrupted, however suddenly, ends with the very weights of one that was not, on the same
    backend; on PyTorch only without dropout, whose random numbers Keras there leaves to PyTorch.

    Arguments:
        corpus: text files, as `Corpus` reads them.
        vocabulary: a vocab.txt, or its tokens.
        config: the model's config, as for `build_model`.
        folder: where everything of the run lies: shards, state, logs, and in the end the model.
        recipe: the numbers of the run.
        checkpoint: weights to begin with instead of random ones, as for `build_model`, with all three heads; a
            shared block may come from a model of another depth.
        valid: text files of held-out documents, to measure on.
        teacher_vectors: a NumPy file (.npy), floats [passages, size], for the states of a passage to learn from, as
            `Pretraining` says; whatever model made it.
        teacher_texts: the text files of these passages, one a line; the corpus by default.
        model: as for `build_model`.
        sharing: as for `build_model`; the schedule of the config by default.
        do_lower_case: whether texts are lower-cased.
        save_every: steps between two saved states, which is also when the held-out documents are measured.
        log_every: steps between two lines of the log.
        valid_batches: batches of held-out documents to measure on.
        tensorboard: whether to write TensorBoard's files too (with TensorFlow's writer).
        half: whether the model is stored in float16.
        workers: processes that tokenise, as for `tokenize_corpus`.

    Returns:
        The trained trunk, with pooler, sentence-order and masked-LM head.
        Raises `DataError`, `TokenizerError` or `ConfigError` for input it cannot use, and `TrainingError` where the
        loss or a weight is no longer finite; then, and where a file cannot be written, the last saved state is intact.

    Examples:
        >>> from pathlib import Path
        >>> from bert4albert.pretraining import Recipe, pretrain
        >>> _ = Path("corpus.txt").write_text("今天很好。\n明天更好。\n\n后天也好。\n明天见。\n", encoding="utf-8")
        >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今明后天很更也好见。"]
        >>> sizes = {"vocab_size": 15, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> recipe = Recipe(steps=1, batch_size=2, length=16)
        >>> trunk = pretrain("corpus.txt", vocabulary, sizes, "run", recipe, workers=1)
        >>> Path("run/model/model.safetensors").is_file()
        True
    """
    folder = Path(folder)
    tokenizer = Tokenizer(vocabulary, do_lower_case)
    teacher = _teacher(teacher_vectors, teacher_texts, corpus, tokenizer, recipe)
    vector_size = teacher.size if teacher is not None else None
    training = build_training(
        config, recipe, checkpoint=checkpoint, model=model, sharing=sharing, vector_size=vector_size
    )
    if training.trunk.config.vocab_size != tokenizer.vocab_size:
        raise ConfigError(
            f"The vocabulary has {tokenizer.vocab_size} tokens and the config says vocab_size "
            f"{training.trunk.config.vocab_size}: change the config to {tokenizer.vocab_size}."
        )
    with reserved(folder):
        examples = _examples(tokenize_corpus(corpus, tokenizer, folder / "shards", workers), tokenizer, recipe)
        if recipe.word_embeddings == "counted" and not (folder / _STATE).exists():
            _start_from_counts(training.trunk, examples.shards, recipe.seed)
        if teacher is not None and not (folder / _STATE).exists():
            first = teacher.batches(recipe.passages, recipe.seed, 0)
            training.fit_vector_layer(itertools.islice(first, _FIRST_BATCHES))
        held_out: list[Arguments] = []
        if valid is not None:
            shards = tokenize_corpus(valid, tokenizer, folder / "valid_shards", workers)
            held_out = _held_out(shards, tokenizer, teacher, recipe, valid_batches)
        run = _Run(training, examples, teacher, held_out, recipe, folder)
        log = RunLog(folder, log_every, run.step, recipe.steps, run.tokens_per_step, training.averages, tensorboard)
        run.train(save_every, log)
        shrink_embeddings(training.trunk)
        save_hf(training.trunk, folder / "model", tokenizer)
        if half:
            store_in_half_precision(folder / "model")
    return training.trunk


def build_training(
    config: str | os.PathLike[str] | Mapping[str, Any],
    recipe: Recipe = Recipe(),  # noqa: B008
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    model: str | None = None,
    sharing: str | Sequence[int] | None = None,
    vector_size: int | None = None,
) -> Pretraining:
    """Return a compiled model to pretrain, with the checkpoint's weights, or what follows from the recipe's seed."""
    if checkpoint is not None and recipe.word_embeddings != "random":
        raise ConfigError(
            f"A checkpoint has word embeddings of its own: leave out word_embeddings={recipe.word_embeddings!r}, "
            "or the checkpoint."
        )
    trunk = build_model(
        config,
        checkpoint,
        model=model,
        sharing=sharing,
        with_pool=True,
        with_nsp=True,
        with_mlm="linear",
        masked_positions=True,
        remat=recipe.remat,
        dtype=recipe.dtype,
    )
    if recipe.remat:
        _refuse_dropout_with_remat_on_jax(trunk.config)
    _start_from_seed(trunk, recipe.seed, draw=checkpoint is None)
    training = Pretraining(trunk, vector_size, recipe.vector_weight, recipe.temperature, recipe.seed)
    training.compile(make_optimizer(recipe))
    training.optimizer.build(training.trainable_variables)
    return training


def _start_from_seed(trunk: Trunk, seed: int, draw: bool) -> None:
    """Start the dropout anew, and `draw` the weights, from the seed alone and without touching any global state."""
    for index, (_, weight) in enumerate(trunk.named_weights()):
        if draw and len(weight.shape) > 1:
            initial = keras.initializers.TruncatedNormal(
                stddev=trunk.config.initializer_range, seed=seed * 1_000_003 + index
            )
            weight.assign(initial(weight.shape))
    for index, variable in enumerate(trunk.non_trainable_variables):
        variable.assign(np.array([seed, index], variable.dtype))


def _start_from_counts(trunk: Trunk, shards: Shards, seed: int) -> None:
    """Let the words of the corpus begin where their neighbours put them, as long on average as random ones."""
    config = trunk.config
    counted = cooccurrence_embeddings(shards, config.vocab_size, config.embedding_size, seed)
    counted *= config.initializer_range * math.sqrt(config.embedding_size)
    weights = dict(trunk.named_weights())
    word = weights["embeddings/word/embeddings"]
    drawn = ops.convert_to_numpy(word)
    word.assign(np.where(counted.any(axis=1, keepdims=True), counted, drawn))
    weights["masked_lm/bias"].assign(log_frequencies(shards, config.vocab_size))


def _refuse_dropout_with_remat_on_jax(config: ModelConfig) -> None:
    rates = (config.hidden_dropout_prob, config.attention_probs_dropout_prob)
    if keras.backend.backend() == "jax" and any(rates):
        raise ConfigError(
            "Keras cannot repeat dropout's random numbers under remat on JAX: set hidden_dropout_prob and "
            "attention_probs_dropout_prob to 0 in the config, as ALBERT v2 does, or leave remat out."
        )


class _Run:
    """A run at some step, fresh or read from its folder."""

    def __init__(
        self,
        training: Pretraining,
        examples: Examples,
        teacher: Teacher | None,
        held_out: list[Arguments],
        recipe: Recipe,
        folder: Path,
    ) -> None:
        self.training, self.examples, self.held_out, self.recipe = training, examples, held_out, recipe
        self.teacher = teacher
        self.path = folder / _STATE
        self.step, self.place = 0, Place()
        progress = read_progress(self.path)
        if progress is not None:
            self.step, self.place = self._where(progress)
            self._check_same_recipe(progress["recipe"])
            self._check_same_teacher(progress.get("teacher"))
            load_state(self.path, training)

    def _where(self, progress: dict[str, Any]) -> tuple[int, Place]:
        """Return the step and the place in the data that a state file says."""
        step, place = progress.get("step"), progress.get("place")
        numbers = [step, *place] if isinstance(place, list) else []
        whole = len(numbers) == 3 and all(type(number) is int and 0 <= number < 2**40 for number in numbers)
        if not whole or not isinstance(progress.get("recipe"), dict):
            raise DataError(f"{self.path} is damaged (it does not say where the run is): delete it to begin anew.")
        return numbers[0], Place(*numbers[1:])

    def train(self, save_every: int, log: RunLog) -> None:
        """Train until the last step; the state is saved before the first, now and then, and after the last."""
        if self.step == 0:
            self._save()
        batches = Prefetched(self._batches())
        try:
            while self.step < self.recipe.steps:
                self._take_step(batches, log)
                at_end = self.step == self.recipe.steps
                log.training(self.step, at_end)
                if self.step % save_every == 0 or at_end:
                    self._save()
                    self._measure(log)
        finally:
            batches.close()
        log.close()

    def _batches(self) -> Iterator[tuple[Arguments, Place]]:
        """Yield what the model is trained on, and the place after it, from where the run is."""
        taken = self.step * self.recipe.accumulate
        passages = _passages(self.teacher, self.recipe, taken)
        for (batch, place), lesson in zip(self.examples.batches(self.place), passages, strict=False):
            yield _arguments(batch, lesson), place

    def _take_step(self, batches: Iterator[tuple[Arguments, Place]], log: RunLog) -> None:
        for _ in range(self.recipe.accumulate):
            arguments, self.place = next(batches)
            measured = self.training.train_on_batch(*arguments, return_dict=True)
            if not math.isfinite(measured["loss"]):
                raise self._diverged(f"The loss is {measured['loss']} in step {self.step + 1}")
            log.add(measured)
        self.step += 1

    @property
    def tokens_per_step(self) -> int:
        return self.recipe.accumulate * self.recipe.batch_size * self.recipe.length

    def _diverged(self, what: str) -> TrainingError:
        rate = float(ops.convert_to_numpy(self.training.optimizer.learning_rate))
        return TrainingError(
            f"{what}, at a learning rate of {rate:.2g}. The last good state is in {self.path}; "
            "begin anew in another folder with a lower learning rate or a longer warm-up."
        )

    def _save(self) -> None:
        # A loss is that of the weights before its step, so that it says nothing of those after the last one.
        name = nonfinite(self.training)
        if name is not None:
            raise self._diverged(f"{name} holds NaN or infinite numbers after step {self.step}")
        progress = {
            "step": self.step,
            "place": self.place,
            "recipe": dataclasses.asdict(self.recipe),
            "teacher": self.teacher.digest if self.teacher is not None else None,
        }
        save_state(self.path, self.training, progress)

    def _measure(self, log: RunLog) -> None:
        if self.held_out:
            log.validation(self.step, evaluate(self.training, self.held_out))

    def _check_same_recipe(self, saved: dict[str, Any]) -> None:
        now, saved = dataclasses.asdict(self.recipe), dataclasses.asdict(Recipe()) | saved
        changed = [f"{key}={saved[key]!r}" for key in now if key != "steps" and saved[key] != now[key]]
        if changed:
            raise ConfigError(
                f"{self.path} is of a run with {', '.join(changed)}: continue with the same settings "
                "(only steps may change), or use another folder."
            )

    def _check_same_teacher(self, saved: str | None) -> None:
        if saved != (self.teacher.digest if self.teacher is not None else None):
            raise ConfigError(
                f"{self.path} is of a run {'without a teacher' if saved is None else 'with other teacher vectors'}: "
                "continue with the same, or use another folder."
            )


def evaluate(training: Pretraining, batches: Sequence[Arguments]) -> dict[str, float]:
    """Return the loss and accuracies, averaged over some batches as `x` and `y`."""
    return average([training.test_on_batch(*arguments, return_dict=True) for arguments in batches])


def _examples(shards: Shards, tokenizer: Tokenizer, recipe: Recipe, seed: int | None = None) -> Examples:
    return Examples(
        shards,
        tokenizer,
        recipe.length,
        recipe.batch_size,
        recipe.seed if seed is None else seed,
        recipe.short_rate,
        recipe.masked_rate,
    )


def _held_out(
    shards: Shards, tokenizer: Tokenizer, teacher: Teacher | None, recipe: Recipe, count: int
) -> list[Arguments]:
    """Return the same batches for every run: the first of epoch 0, fewer where there are not so many."""
    examples = _examples(shards, tokenizer, recipe, _VALIDATION_SEED)
    same_epoch = itertools.takewhile(lambda item: item[1].epoch == 0, examples.batches())
    lessons: Iterator[TeacherBatch | None] = _passages(teacher, recipe)
    if teacher is not None and (kept := teacher.held_out(recipe.passages)):
        lessons = itertools.cycle(kept)
    batches = itertools.islice(same_epoch, count)
    return [_arguments(batch, lesson) for (batch, _), lesson in zip(batches, lessons, strict=False)]


def _teacher(
    vectors: str | os.PathLike[str] | None, texts: Paths | None, corpus: Paths, tokenizer: Tokenizer, recipe: Recipe
) -> Teacher | None:
    if vectors is not None:
        return Teacher(corpus if texts is None else texts, vectors, tokenizer, recipe.length)
    if texts is not None:
        raise ConfigError("teacher_texts needs teacher_vectors: the file with one vector for each of its passages.")
    return None


def _passages(teacher: Teacher | None, recipe: Recipe, start: int = 0) -> Iterator[TeacherBatch | None]:
    if teacher is None:
        return itertools.repeat(None)
    return teacher.batches(recipe.passages, recipe.seed, start)


def _arguments(batch: Batch, lesson: TeacherBatch | None = None) -> Arguments:
    """Return a batch, and the passages beside it, as the `x` and `y` of Keras."""
    x, y = [*batch[:3]], [*batch[3:]]
    if lesson is not None:
        x.append(lesson.passage_ids)
        y.append(lesson.vectors)
    return x, y
