"""`sequence_padding` and `DataGenerator`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import keras
import numpy as np

from bert4albert.bert4keras.symbolic import require_tensorflow
from bert4albert.errors import require_choice


def sequence_padding(
    inputs: Any, length: Any = None, value: float = 0, seq_dims: int = 1, mode: str = "post"
) -> np.ndarray:
    """Return rows of different lengths as one array.

    Arguments:
        inputs: lists or arrays.
        length: the length, or lengths of the first axes; longer rows are cut. None for the longest row.
        value: what to fill up with.
        seq_dims: how many axes differ from row to row.
        mode: 'post' to fill up after, 'pre' before.
    """
    require_choice("mode", mode, ("post", "pre"))
    if length is None:
        length = np.max([np.shape(x)[:seq_dims] for x in inputs], axis=0)
    elif not hasattr(length, "__getitem__"):
        length = [length]
    rows = []
    for x in inputs:
        row = np.asarray(x)[tuple(slice(length[i]) for i in range(seq_dims))]
        missing = [int(length[i]) - row.shape[i] if i < seq_dims else 0 for i in range(row.ndim)]
        width = [(0, m) if mode == "post" else (m, 0) for m in missing]
        rows.append(np.pad(row, width, "constant", constant_values=value))
    return np.array(rows)


class DataGenerator:
    """The base of data generators: a script says in `__iter__` how examples become batches.

    Arguments:
        data: the examples; something with a length, or an iterable.
        batch_size: examples in a batch.
        buffer_size: how many examples of an iterable are drawn from at random.
    """

    def __init__(self, data: Any, batch_size: int = 32, buffer_size: int | None = None) -> None:
        self.data, self.batch_size = data, batch_size
        self.steps = -(-len(data) // batch_size) if hasattr(data, "__len__") else None
        self.buffer_size = buffer_size or batch_size * 1000

    def __len__(self) -> Any:
        return self.steps

    def sample(self, random: bool = False) -> Iterator[tuple[bool, Any]]:
        """Yield (whether this is the last one, example), in a random order by NumPy's generator if `random`."""
        examples = self._shuffled() if random else iter(self.data)
        current = next(examples)
        for following in examples:
            yield False, current
            current = following
        yield True, current

    def _shuffled(self) -> Iterator[Any]:
        if self.steps is not None:
            for index in np.random.permutation(len(self.data)):
                yield self.data[index]
            return
        buffer: list[Any] = []
        full = False
        for example in self.data:
            buffer.append(example)
            if full:
                yield buffer.pop(np.random.randint(len(buffer)))
            elif len(buffer) == self.buffer_size:
                full = True
        while buffer:
            yield buffer.pop(np.random.randint(len(buffer)))

    def __iter__(self, random: bool = False) -> Iterator[Any]:
        raise NotImplementedError("A DataGenerator needs a method __iter__(self, random=False) that yields batches.")

    def forfit(self, random: bool = True) -> Iterator[Any]:
        """Yield batches without end, each pass in a new order."""
        while True:
            yield from self.__iter__(random)

    def fortest(self, random: bool = False) -> Iterator[Any]:
        """Yield the inputs of batches without end."""
        while True:
            yield from (batch[0] for batch in self.__iter__(random))

    def to_dataset(self, types: Any, shapes: Any, names: Any = None, padded_batch: bool = False) -> Any:
        """Return a `tf.data.Dataset` of batches, made of the examples that `__iter__` yields one by one.

        Arguments:
            types, shapes: of the parts of an example.
            names: the names of the model's inputs (and outputs), for dictionaries in place of tuples.
            padded_batch: whether examples differ in length.
        """
        tf = require_tensorflow("to_dataset")
        examples: Any = self.forfit
        if names is not None:

            def named(values: Any) -> Any:
                if isinstance(names, str):
                    return {names: values}
                if isinstance(names[0], str):
                    return dict(zip(names, values, strict=False))
                return tuple(dict(zip(n, v, strict=False)) for n, v in zip(names, values, strict=False))

            def examples() -> Iterator[Any]:
                yield from map(named, self.forfit())

            types, shapes = named(types), named(shapes)
        dataset = tf.data.Dataset.from_generator(
            examples, output_types=types, **({} if padded_batch else {"output_shapes": shapes})
        )
        if padded_batch:
            return dataset.padded_batch(self.batch_size, shapes)
        return dataset.batch(self.batch_size)


def as_tuples(batch: Any) -> Any:
    """Return a batch with tuples for lists, of which Keras 3 makes no signature."""
    return tuple(map(as_tuples, batch)) if isinstance(batch, (list, tuple)) else batch


def dataset_of(model: keras.Model, batches: Iterator[Any]) -> Any:
    """Return batches as a `tf.data.Dataset`, whose sizes are only those that the model knows.

    Keras 3 goes by the first two batches of a generator: where they are of one length, it refuses all others.

    Arguments:
        model: the model that gets them.
        batches: tuples of inputs, targets and weights, or inputs alone.
    """
    tf = require_tensorflow("A generator of batches as a dataset")

    def arrays(batch: Any) -> tuple[Any, ...]:
        parts = batch if isinstance(batch, tuple) else (batch,)
        return tuple(keras.tree.map_structure(np.asarray, part) for part in parts if part is not None)

    def signature(part: Any, tensors: list[Any], names: list[str]) -> Any:
        leaves = keras.tree.flatten(part)
        if isinstance(part, dict):
            known = dict(zip(names, tensors, strict=False))
            tensors = [known.get(name) for name in sorted(part)]
        if len(tensors) != len(leaves):
            tensors = [None] * len(leaves)
        specs = [tf.TensorSpec(_sizes(*pair), pair[0].dtype) for pair in zip(leaves, tensors, strict=True)]
        return keras.tree.pack_sequence_as(part, specs)

    everything: Iterator[tuple[Any, ...]] = map(arrays, batches)
    first = next(everything)
    expected = [
        (model.inputs, [tensor.name for tensor in model.inputs]),
        (model.outputs, list(model.output_names)),
        ([], []),
    ]
    signatures = tuple(signature(part, *known) for part, known in zip(first, expected, strict=False))
    everything = chain([first], everything)
    return tf.data.Dataset.from_generator(lambda: everything, output_signature=signatures).prefetch(tf.data.AUTOTUNE)


def _sizes(array: np.ndarray, tensor: Any) -> list[int | None]:
    """Return the sizes of an array that all batches share: those of the model's tensor, and 1 at the end."""
    known = tensor.shape if tensor is not None and len(tensor.shape) == array.ndim else [None] * array.ndim
    sizes = [size if size == own else None for size, own in zip(array.shape, known, strict=True)]
    if array.ndim > 1 and array.shape[-1] == 1:
        sizes[-1] = 1
    return [None, *sizes[1:]] if sizes else []
