"""Datasets: batches of similar length that any backend trains on, every example once an epoch."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from bert4albert.errors import DataError
from bert4albert.text import Batches, make_dataset, predict_in_buckets

LENGTHS = np.random.default_rng(0).integers(3, 61, 103)
ROWS = [[index + 1] * length for index, length in enumerate(LENGTHS)]
SEGMENTS = [[0] * length for length in LENGTHS]


def examples_of(batch):
    """Which examples a batch of ROWS holds: each row repeats its index + 1."""
    (token_ids, *_), *_ = batch
    return (np.asarray(token_ids)[:, 0] - 1).tolist()


def an_epoch(batches):
    return [index for batch in batches for index in examples_of(batch)]


def adding_model():
    """Return a model whose output is the sum of a row's ids."""
    token_ids = keras.Input((None,), dtype="int32")
    segment_ids = keras.Input((None,), dtype="int32")
    total = keras.layers.Lambda(
        lambda inputs: keras.ops.sum(keras.ops.cast(inputs[0] + inputs[1], "float32"), axis=1, keepdims=True),
        output_shape=(1,),
    )([token_ids, segment_ids])
    return keras.Model([token_ids, segment_ids], total)


class SeenRows(keras.layers.Layer):
    """Passes sums of ids on, and counts how often each example came by."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.seen = self.add_weight(shape=(len(ROWS) + 1,), initializer="zeros", trainable=False)

    def call(self, token_ids, training=False):
        if training:
            counts = keras.ops.sum(keras.ops.one_hot(token_ids[:, 0], len(ROWS) + 1), axis=0)
            self.seen.assign(self.seen + counts)
        return self.scale * keras.ops.cast(keras.ops.sum(token_ids, axis=1, keepdims=True), "float32")


def counting_model():
    token_ids, segment_ids = (keras.Input((None,), dtype="int32") for _ in range(2))
    seen = SeenRows()
    model = keras.Model([token_ids, segment_ids], seen(token_ids))
    model.compile("sgd", "mse")
    return model, seen


# Batches


def test_every_example_comes_once_an_epoch_in_a_new_order():
    batches = Batches((ROWS, SEGMENTS), batch_size=8)
    first, second = an_epoch(batches), an_epoch(batches)
    assert sorted(first) == sorted(second) == list(range(103))
    assert first != second


def test_the_seed_alone_decides_the_orders():
    one, same, other = (Batches((ROWS, SEGMENTS), batch_size=8, seed=seed) for seed in (1, 1, 2))
    orders = [an_epoch(one) for _ in range(3)]
    assert orders == [an_epoch(same) for _ in range(3)]
    assert orders[0] != an_epoch(other)


@pytest.mark.parametrize(("drop_last", "expected"), [(False, 13), (True, 12)])
def test_len_is_the_number_of_batches(drop_last, expected):
    batches = Batches((ROWS, SEGMENTS), batch_size=8, drop_last=drop_last)
    sizes = sorted(len(examples_of(batch)) for batch in batches)
    assert len(batches) == len(sizes) == expected
    assert sizes == ([] if drop_last else [7]) + [8] * 12


def test_the_examples_that_are_dropped_change_with_the_epoch():
    batches = Batches((ROWS, SEGMENTS), batch_size=8, drop_last=True)
    assert set(an_epoch(batches)) != set(an_epoch(batches))


def test_batches_hold_texts_of_similar_length_padded_to_a_multiple():
    batches = Batches((ROWS, SEGMENTS), batch_size=8, multiple=16)
    items = 0
    for ((token_ids, segment_ids),) in batches:
        longest = max(LENGTHS[examples_of(((token_ids, segment_ids),))])
        assert token_ids.shape == segment_ids.shape == (len(token_ids), -(-longest // 16) * 16)
        items += token_ids.size
    random = sum(batch[0][0].size for batch in Batches((ROWS, SEGMENTS), batch_size=8, bucket=False))
    assert items < 0.75 * random


def test_rounding_up_stops_at_maxlen():
    batches = Batches((ROWS, SEGMENTS), batch_size=8, multiple=16, maxlen=60)
    assert max(token_ids.shape[1] for ((token_ids, _),) in batches) == 60


def test_batches_come_in_random_order_of_length():
    widths = [token_ids.shape[1] for ((token_ids, _),) in Batches((ROWS, SEGMENTS), batch_size=8)]
    assert widths != sorted(widths)


def test_without_shuffling_rows_keep_their_order():
    assert an_epoch(Batches((ROWS, SEGMENTS), batch_size=8, shuffle=False)) == list(range(103))


def test_rows_are_padded_with_zeros_after_their_items():
    (((token_ids, _),),) = Batches(([[1, 2], [3]], [[0, 0], [0]]), shuffle=False, multiple=4)
    assert token_ids.tolist() == [[1, 2, 0, 0], [3, 0, 0, 0]]
    assert token_ids.dtype == np.int32


def test_targets_of_each_token_are_padded_like_the_inputs():
    tags = [[index] * length for index, length in enumerate(LENGTHS)]
    for (token_ids, _), targets in Batches((ROWS, SEGMENTS), tags, batch_size=8, target_padding=-1):
        assert targets.shape == token_ids.shape
        assert (targets == np.where(token_ids > 0, token_ids - 1, -1)).all()


@pytest.mark.parametrize(
    ("targets", "shape", "dtype"),
    [
        (list(range(103)), (), "int32"),
        ([index / 2 for index in range(103)], (), "float32"),
        (np.arange(103 * 5).reshape(103, 5), (5,), "int32"),
        ([np.ones((length, 2)) for length in LENGTHS], (64, 2), "float32"),
        ([np.bool_(True)] * 103, (), "int32"),
    ],
    ids=["ids", "numbers", "array", "vectors of each token", "booleans"],
)
def test_targets_have_the_shape_and_kind_they_were_given_with(targets, shape, dtype):
    batches = Batches((ROWS, SEGMENTS), targets, batch_size=103, bucket=False)
    ((_, batch),) = batches
    assert batch.shape == (103, *shape)
    assert batch.dtype == dtype


def test_structure_is_kept():
    inputs = {"token_ids": ROWS, "segment_ids": SEGMENTS}
    targets = (list(range(103)), np.zeros((103, 2)))
    x, y, weight = next(iter(Batches(inputs, targets, np.ones(103), batch_size=8)))
    assert list(x) == ["token_ids", "segment_ids"]
    assert (y[0] == x["token_ids"][:, 0] - 1).all()
    assert weight.shape == (8,)


def test_an_empty_row_is_all_padding():
    ((token_ids,),) = Batches([[], [1]], shuffle=False, multiple=2)
    assert token_ids.tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((ROWS, SEGMENTS), [1, 2]), {}, "2 and 103 examples"),
        (([ROWS, SEGMENTS],), {}, "as a tuple"),
        (([],), {}, "no examples"),
        ((["今天"],), {}, "Expected numbers"),
        (([[1]], ["好"]), {}, "turn texts and labels into ids"),
        (([[1]], None, [1.0]), {}, "without targets"),
        ((ROWS,), {"maxlen": 20}, "more than maxlen=20"),
        (([1, None],), {}, "got None"),
        (([[1], 2],), {}, "every row"),
        ((ROWS,), {"batch_size": 0}, "must both be 1 or more"),
        ((ROWS,), {"batch_size": 104, "drop_last": True}, "do not fill one batch of 104"),
    ],
)
def test_data_that_cannot_be_batched_is_explained(arguments, options, message):
    with pytest.raises(DataError, match=message):
        Batches(*arguments, **options)


# Keras


def test_a_dataset_knows_its_number_of_batches():
    assert len(make_dataset((ROWS, SEGMENTS), batch_size=8)) == 13


def test_training_sees_every_example_once_an_epoch():
    model, seen = counting_model()
    dataset = make_dataset((ROWS, SEGMENTS), np.zeros(103), batch_size=8)
    history = model.fit(dataset, epochs=3, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 3
    assert keras.ops.convert_to_numpy(seen.seen).tolist() == [0] + [3] * 103


def test_training_takes_weights_and_targets_of_each_token():
    token_ids, segment_ids = (keras.Input((None,), dtype="int32") for _ in range(2))
    tags = keras.layers.Dense(5)(keras.layers.Embedding(104, 4)(token_ids))
    model = keras.Model([token_ids, segment_ids], tags)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1))
    targets = [[index % 5] * length for index, length in enumerate(LENGTHS)]
    weights = [[1.0] * length for length in LENGTHS]
    dataset = make_dataset((ROWS, SEGMENTS), targets, weights, batch_size=8, target_padding=-1)
    assert np.isfinite(model.fit(dataset, shuffle=False, verbose=0).history["loss"]).all()


def test_training_repeats_exactly_with_the_same_seed():
    def losses(seed):
        model, _ = counting_model()
        model.compile(keras.optimizers.SGD(1e-9), "mse")
        dataset = make_dataset((ROWS, SEGMENTS), np.zeros(103), batch_size=8, seed=seed)
        return model.fit(dataset, epochs=2, shuffle=False, verbose=0).history["loss"]

    assert losses(1) == losses(1) != losses(2)


def test_a_dataset_can_be_iterated_again_in_a_new_order():
    dataset = make_dataset((ROWS, SEGMENTS), list(range(103)), batch_size=8)
    first = an_epoch(dataset)
    if isinstance(dataset, keras.utils.PyDataset):
        dataset.on_epoch_end()
    second = an_epoch(dataset)
    assert sorted(first) == sorted(second) == list(range(103))
    assert first != second


def test_the_kind_of_dataset_fits_the_backend():
    dataset = make_dataset(ROWS)
    if keras.backend.backend() == "tensorflow":
        assert not dataset.options().autotune.enabled
    else:
        assert isinstance(dataset, keras.utils.PyDataset)


def test_evaluation_covers_the_last_partial_batch():
    model, _ = counting_model()
    targets = np.array([[sum(row)] for row in ROWS])
    dataset = make_dataset((ROWS, SEGMENTS), targets, batch_size=8, shuffle=False, bucket=True)
    assert model.evaluate(dataset, verbose=0) == 0


def test_predictions_over_an_unshuffled_dataset_come_in_order():
    predicted = adding_model().predict(make_dataset((ROWS, SEGMENTS), batch_size=8, shuffle=False), verbose=0)
    assert predicted[:, 0].tolist() == [sum(row) for row in ROWS]


def test_predictions_in_buckets_come_in_order():
    predicted = predict_in_buckets(adding_model(), (ROWS, SEGMENTS), batch_size=8)
    assert predicted[:, 0].tolist() == [sum(row) for row in ROWS]


def test_predictions_of_each_token_in_buckets_are_filled_up_with_zeros():
    token_ids = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(104, 2, embeddings_initializer="ones")(token_ids)
    model = keras.Model(token_ids, [embedded, keras.layers.GlobalAveragePooling1D()(embedded)])
    each_token, pooled = predict_in_buckets(model, ROWS, batch_size=8, multiple=16)
    assert each_token.shape == (103, 64, 2)
    expected = np.arange(64) < -(-LENGTHS[:, None] // 16) * 16
    assert (each_token[:, :, 0] >= expected * (np.arange(64) < LENGTHS[:, None])).all()
    assert pooled.tolist() == [[1.0, 1.0]] * 103


def test_importing_the_text_package_imports_no_backend():
    program = "import sys, bert4albert.text; print({'tensorflow', 'jax', 'torch', 'keras'}.intersection(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()"
