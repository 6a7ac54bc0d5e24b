"""Datasets: batches of texts of similar length, as the `fit` of any backend takes them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from bert4albert.batches.padding import Ragged, as_numbers, round_up
from bert4albert.errors import DataError


class Batches:
    """Batches of numpy arrays, each padded only as far as its own texts need.

    Iterating gives tuples `(inputs,)`, `(inputs, targets)` or `(inputs, targets, sample_weight)`, and each
    iteration is a new epoch: every example once, in a new order if `shuffle`. `len` is the number of batches.

    Arguments:
        inputs: one column, or a tuple or dictionary of columns. A column is an array [examples, ...], a list of
            numbers, or a list of rows of different lengths (lists, or arrays [row_length, ...]), which are padded.
        targets: columns likewise; rows of different lengths (labels of each token) are padded like the inputs.
        sample_weight: a column likewise.
        batch_size: examples a batch; the last batch may have fewer.
        shuffle: whether each epoch has its own order, which depends on `seed` and nothing else.
        bucket: whether a batch holds texts of similar length. By default as `shuffle`: without
            shuffling, rows stay in the order given, as `predict` needs it.
        multiple: batches are padded to a multiple of this length, so that few shapes are compiled.
        maxlen: the most that this rounding may come to; for models with that many positions.
        target_padding: what rows of targets are filled up with.
        drop_last: whether to leave out the examples, new ones each epoch, that do not fill a batch.
        seed: the seed of the orders.
        first_epoch: the number of the first epoch, where a training goes on: its order is that of this epoch.

    Raises `DataError` if columns differ in length, have no examples, do not hold numbers, or exceed `maxlen`.

    Examples:
        >>> from bert4albert.batches import Batches
        >>> token_ids, segment_ids = [[2, 5, 3], [2, 3], [2, 3]], [[0, 0, 0], [0, 0], [0, 0]]
        >>> batches = Batches((token_ids, segment_ids), [1, 0, 1], batch_size=2, shuffle=False, multiple=4)
        >>> for (ids, _), labels in batches:
        ...     print(ids.tolist(), labels.tolist())
        [[2, 5, 3, 0], [2, 3, 0, 0]] [1, 0]
        [[2, 3, 0, 0]] [1]
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        bucket: bool | None = None,
        multiple: int = 16,
        maxlen: int | None = None,
        target_padding: float = 0,
        drop_last: bool = False,
        seed: int = 0,
        first_epoch: int = 0,
    ) -> None:
        if batch_size < 1 or multiple < 1:
            raise DataError(f"batch_size={batch_size} and multiple={multiple} must both be 1 or more.")
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.bucket = shuffle if bucket is None else bucket
        self.multiple = multiple
        self.maxlen = maxlen
        self.drop_last = drop_last
        self.seed = seed
        self._columns = _batch_columns(inputs, targets, sample_weight, target_padding)
        leaves = [leaf for part in self._columns for leaf in _leaves(part)]
        self.examples = _common_length(leaves)
        self._lengths = np.max([leaf.lengths for leaf in leaves], axis=0)
        if maxlen is not None and self._lengths.max() > maxlen:
            raise DataError(
                f"Example {self._lengths.argmax()} has {self._lengths.max()} items, more than maxlen={maxlen}: "
                "encode texts with this maxlen."
            )
        if len(self) == 0:
            raise DataError(
                f"The {self.examples} examples do not fill one batch of {batch_size}: use a smaller batch_size, "
                "or drop_last=False."
            )
        self.first_epoch = first_epoch
        self._epochs = count(first_epoch)

    def __len__(self) -> int:
        return self.examples // self.batch_size if self.drop_last else -(-self.examples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for rows in self.plan(next(self._epochs)):
            yield self.take(rows)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Return which examples make up each batch of an epoch, the first of which is 0."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(self.examples) if self.shuffle else np.arange(self.examples)
        if self.drop_last:
            order = order[: len(self) * self.batch_size]
        if self.bucket:
            buckets = round_up(self._lengths[order], self.multiple)
            order = order[np.argsort(buckets, kind="stable")]
        batches = np.split(order, np.arange(self.batch_size, len(order), self.batch_size))
        if self.bucket and self.shuffle:
            random.shuffle(batches)
        return batches

    def take(self, rows: np.ndarray) -> tuple[Any, ...]:
        """Return these examples as one batch."""
        length = round_up(int(self._lengths[rows].max()), self.multiple)
        if self.maxlen is not None:
            length = min(length, self.maxlen)
        return self.map_columns(lambda column: column.take(rows, length))

    def map_columns(self, function: Callable[["_Column"], Any]) -> tuple[Any, ...]:
        """Return what a function makes of each column, in the structure of a batch."""
        return tuple(_map(function, part) for part in self._columns)


def make_dataset(inputs: Any, targets: Any = None, sample_weight: Any = None, **options: Any) -> Any:
    """Return batches in the form that `fit`, `evaluate` and `predict` of the Keras backend in use take.

    Arguments:
        inputs: as in `Batches`.
        targets: as in `Batches`.
        sample_weight: as in `Batches`.
        options: the other arguments of `Batches`.

    Returns:
        A `tf.data.Dataset` on TensorFlow, a `keras.utils.PyDataset` on other backends; `len` is its number of
        batches. Call `fit` with `shuffle=False`: the order is random already, and Keras would mix the batches
        of a PyDataset by a seed of its own. Raises `DataError` as in `Batches`.

    Examples:
        >>> from bert4albert.batches import make_dataset
        >>> dataset = make_dataset([[2, 5, 3], [2, 3], [2, 3]], [1, 0, 1], batch_size=2)
        >>> len(dataset)
        2
    """
    import keras

    batches = Batches(inputs, targets, sample_weight, **options)
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_dataset(batches)
    from bert4albert.batches.py_dataset import BatchesDataset

    return BatchesDataset(batches)


def predict_in_buckets(
    model: Any, inputs: Any, *, batch_size: int = 32, multiple: int = 16, maxlen: int | None = None
) -> Any:
    """Return a model's predictions in the order of the inputs, computed over batches of similar length.

    Arguments:
        model: a Keras model.
        inputs: as in `Batches`.
        batch_size: examples a batch.
        multiple: as in `Batches`.
        maxlen: as in `Batches`.

    Returns:
        What `model.predict` would return, an array [examples, ...] or a structure of arrays. An axis that follows
        the length of the batch is as long as in the longest batch, with zeros beyond the shorter ones. Several
        threads may ask one model at once. Raises `DataError` as in `Batches`.

    Examples:
        >>> from bert4albert import build_model
        >>> from bert4albert.batches import predict_in_buckets
        >>> model = build_model("albert_tiny_zh", num_hidden_layers=1)
        >>> token_ids, segment_ids = [[2, 100, 3], [2, 3]], [[0, 0, 0], [0, 0]]
        >>> predict_in_buckets(model, (token_ids, segment_ids)).shape
        (2, 16, 312)
    """
    import keras

    from bert4albert.batches.inference import inference_of

    batches = Batches(inputs, batch_size=batch_size, shuffle=False, bucket=True, multiple=multiple, maxlen=maxlen)
    plan = batches.plan(0)
    infer = inference_of(model)
    outputs = [infer(*batches.take(rows)) for rows in plan]
    return keras.tree.map_structure(lambda *parts: _in_order(plan, parts), *outputs)


def check_token_ids(inputs: Any, vocab_size: int) -> None:
    """Raise `DataError` for a token id that has no embedding: some backends would answer with NaN, others at random.

    Arguments:
        inputs: as in `Batches`; the token ids are the first column.
        vocab_size: how many word embeddings there are.

    Examples:
        >>> from bert4albert.batches import check_token_ids
        >>> check_token_ids([[2, 5, 3], [2, 9000, 3]], vocab_size=8000)
        Traceback (most recent call last):
        bert4albert.errors.DataError: Example 1 has the token id 9000, but the model has 8000 words, ...
    """
    column = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
    column = column[0] if isinstance(column, tuple) else column
    for index, row in enumerate(column):
        ids = np.asarray(row)
        if ids.size and ids.dtype.kind in "iu" and not (ids.min() >= 0 and ids.max() < vocab_size):
            wrong = ids.max() if ids.max() >= vocab_size else ids.min()
            raise DataError(
                f"Example {index} has the token id {wrong}, but the model has {vocab_size} words, from 0 on: use the "
                "vocabulary that came with the checkpoint."
            )


class _Column:
    """A column of numbers [examples, ...], or of rows of different lengths."""

    def __init__(self, values: Any, padding: float) -> None:
        if not isinstance(values, np.ndarray) or values.dtype == object:
            values = list(values)
        self._padding = padding
        self._values: Ragged | np.ndarray
        if isinstance(values, list) and values and hasattr(values[0], "__len__"):
            self._values = Ragged(values)
            self.lengths = self._values.lengths
            self.shape = self._values.shape
        else:
            self._values = as_numbers(values)
            self.lengths = np.zeros(len(self._values), np.int64)
            self.shape = (None, *self._values.shape[1:])
        self.dtype = self._values.dtype

    def take(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Return some examples, those of different lengths padded to this one."""
        if isinstance(self._values, Ragged):
            return self._values.pad(rows, length, self._padding)
        return self._values[rows]


def _batch_columns(inputs: Any, targets: Any, sample_weight: Any, target_padding: float) -> tuple[Any, ...]:
    """Return the columns of inputs, targets and weights, as far as they are given."""
    if targets is None and sample_weight is not None:
        raise DataError("sample_weight was given without targets: a weight belongs to a loss, so give both.")
    parts = [(inputs, 0), (targets, target_padding), (sample_weight, 0)]
    return tuple(_map(partial(_Column, padding=padding), part) for part, padding in parts if part is not None)


def _map(function: Callable[[Any], Any], part: Any) -> Any:
    """Apply a function to one column, or to each of a tuple or dictionary of them."""
    if isinstance(part, tuple):
        return tuple(map(function, part))
    if isinstance(part, Mapping):
        return {name: function(column) for name, column in part.items()}
    return function(part)


def _leaves(part: Any) -> list[_Column]:
    found: list[_Column] = []
    _map(found.append, part)
    return found


def _common_length(columns: Sequence[_Column]) -> int:
    examples = sorted({len(column.lengths) for column in columns})
    if len(examples) > 1:
        raise DataError(
            f"Columns have {' and '.join(map(str, examples))} examples: give each example one entry in every column, "
            "and several columns as a tuple."
        )
    if not examples or examples[0] == 0:
        raise DataError("There are no examples: give at least one.")
    return examples[0]


def _in_order(plan: Sequence[np.ndarray], parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the outputs of batches as one array, each row at its example's place."""
    shape = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    result = np.zeros((sum(map(len, plan)), *shape), parts[0].dtype)
    for rows, part in zip(plan, parts, strict=True):
        index: tuple[Any, ...] = (rows, *map(slice, part.shape[1:]))
        result[index] = part
    return result


def _tensorflow_dataset(batches: Batches) -> Any:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_generator(
        batches.__iter__,
        output_signature=batches.map_columns(lambda column: tf.TensorSpec(column.shape, column.dtype)),
    )
    # Its tuning thread can hold up the end of training by 20 seconds.
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return dataset.prefetch(2).with_options(options)
