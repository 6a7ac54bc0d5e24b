"""Training recipes do what their definitions say, step by step, on every backend."""

import random
import subprocess
import sys

import keras
import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import TINY

from bert4albert import ConfigError, Tokenizer, build_model
from bert4albert.tasks import TextClassifier
from bert4albert.training import (
    Evaluator,
    MovingAverage,
    PiecewiseLinear,
    adamw,
    adversarial_model,
    default_optimizer,
    layerwise,
    piecewise_linear,
    seeded_dropout,
    warmup_linear_decay,
)

RANDOM = np.random.default_rng(3)
WORDS = RANDOM.integers(1, 13, (8, 5)).astype("int32")
TARGETS = RANDOM.integers(0, 3, 8).astype("int32")


def small_model(dropout=0.0):
    """A classifier of word ids with biases that are not 0; the same weights each time."""
    ids = keras.Input((None,), dtype="int32")
    words = keras.layers.Embedding(13, 6, name="words")(ids)
    words = keras.layers.LayerNormalization(name="norm")(words)
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Dropout(dropout)(words))
    model = keras.Model(ids, keras.layers.Dense(3, name="logits")(pooled))
    values = np.random.default_rng(5)
    model.set_weights([values.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def compiled(model, optimizer):
    """The model with a loss on logits, compiled as quickly as the backend can."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    return model


def step(model, learning_rate=1.0, rows=slice(None)):
    """What one step of plain gradient descent takes off each weight: the gradients."""
    before = model.get_weights()
    compiled(model, keras.optimizers.SGD(learning_rate)).train_on_batch(WORDS[rows], TARGETS[rows])
    return [old - new for old, new in zip(before, model.get_weights(), strict=True)]


@pytest.mark.parametrize(
    "points", [{1000: 1, 2000: 0.1}, {0: 1, 30: 0}, {7: 0.5, 3: 1, 40: 0.2}, {0: 0.3}, {5: 1}, {0: 0, 1: 1, 2: 0}]
)
def test_piecewise_linear_goes_straight_from_point_to_point(points):
    schedule = piecewise_linear(points, 1e-4)
    known = sorted(({0: 0} | points).items())
    for now in (0, 1, 2, 3, 5, 17, 30, 39, 1000, 1001, 1500, 2000, 99999):
        expected = 1e-4 * np.interp(now, *zip(*known, strict=True))
        assert float(to_numpy(schedule(now))) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_a_schedule_takes_the_step_of_an_optimizer_and_survives_saving():
    schedule = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(piecewise_linear({10: 1, 20: 0.1}, 0.5))
    )
    optimizer = keras.optimizers.SGD(schedule)
    optimizer.build([keras.Variable(np.zeros(2, "float32"))])
    optimizer.iterations.assign(15)
    assert float(to_numpy(optimizer.learning_rate)) == pytest.approx(0.275)


def test_warmup_ends_at_the_highest_rate_and_the_training_at_zero():
    schedule = warmup_linear_decay(2e-3, steps=200, warmup=0.1)
    assert [float(to_numpy(schedule(now))) for now in (0, 10, 20, 110, 200)] == pytest.approx([0, 1e-3, 2e-3, 1e-3, 0])
    assert float(to_numpy(warmup_linear_decay(2e-3, 200, 0.0)(0))) == pytest.approx(2e-3)


@pytest.mark.parametrize("points", [{}, {-1: 1.0}, {0.5: 1.0}])
def test_points_that_make_no_schedule_are_refused(points):
    with pytest.raises(ConfigError, match="points must map steps"):
        PiecewiseLinear(points)


@pytest.mark.parametrize("warmup", [-0.1, 1, 100])
def test_warmup_is_a_part_of_the_steps(warmup):
    with pytest.raises(ConfigError, match="part of the steps"):
        warmup_linear_decay(1e-3, 100, warmup)


def test_adamw_decays_neither_biases_nor_norms():
    model = small_model()
    before = {weight.path: to_numpy(weight).copy() for weight in model.weights}
    optimizer = adamw(0.5, weight_decay=0.1)
    optimizer.apply([keras.ops.zeros(weight.shape) for weight in model.weights], model.weights)
    for weight in model.weights:
        factor = 1.0 if weight.name in ("bias", "gamma", "beta") else 0.95
        np.testing.assert_allclose(to_numpy(weight), factor * before[weight.path], rtol=1e-6)
    assert {weight.name for weight in model.weights} == {"embeddings", "gamma", "beta", "kernel", "bias"}


def test_accumulated_batches_are_one_step_on_all_of_them():
    whole, parts = small_model(), small_model()
    compiled(whole, adamw(0.1)).train_on_batch(WORDS, TARGETS)
    compiled(parts, adamw(0.1, accumulate=2))
    for rows in (slice(0, 4), slice(4, 8)):
        parts.train_on_batch(WORDS[rows], TARGETS[rows])
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("sharing", "blocks"),
    [
        ("shared", [(0.5 + 0.25 + 0.125) / 3]),
        ("unshared", [0.125, 0.25, 0.5]),
        ([0, 1, 0], [(0.125 + 0.5) / 2, 0.25]),
    ],
)
def test_lower_depths_learn_more_slowly_and_a_block_at_the_mean_rate_of_its_depths(tiny_config, sharing, blocks):
    trunk = build_model(tiny_config, sharing=sharing)
    logits = keras.layers.Dense(2, name="logits")(trunk.output)
    model = keras.Model(trunk.inputs, logits)
    before = [to_numpy(weight).copy() for weight in model.trainable_variables]
    optimizer = layerwise(trunk, keras.optimizers.SGD, decay=0.5)
    ones = [keras.ops.ones(weight.shape) for weight in model.trainable_variables]
    optimizer.apply(ones, model.trainable_variables)
    factors = {f"block_{index}": factor for index, factor in enumerate(blocks)} | {"embeddings/": 0.5**4, "logits": 1.0}
    for weight, old in zip(model.trainable_variables, before, strict=True):
        expected = next(
            factor
            for name, factor in factors.items()
            if name in weight.path.split("/")[:-1][:2] or weight.path.startswith(name)
        )
        np.testing.assert_allclose(old - to_numpy(weight), expected, rtol=1e-4, err_msg=weight.path)


def test_the_default_optimizer_has_the_rates_of_its_arguments(tiny_config):
    trunk = build_model(tiny_config)
    optimizer = default_optimizer(trunk, 100, warmup=0.0)
    optimizer.build(trunk.trainable_variables)
    assert float(to_numpy(optimizer.learning_rate)) == pytest.approx(1e-4)
    parts = default_optimizer(trunk, 100, 1e-3, warmup=0.0, layer_decay=0.5).optimizers
    for part in parts:
        part.build([])
    rates = sorted(float(to_numpy(part.learning_rate)) for part in parts)
    assert rates == pytest.approx([1e-3 / 16, 1e-3 * 0.875 / 3, 1e-3])


def test_a_schedule_of_the_users_cannot_be_split_over_layers(tiny_config):
    with pytest.raises(ConfigError, match="layerwise"):
        default_optimizer(build_model(tiny_config), 100, piecewise_linear({5: 1}, 1e-3), layer_decay=0.9)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_moving_average_starts_from_nothing_and_is_corrected_for_it(accumulate):
    def optimizer():
        return keras.optimizers.SGD(0.3, gradient_accumulation_steps=accumulate if accumulate > 1 else None)

    plain = compiled(small_model(), optimizer())
    history = []
    for batch in range(3 * accumulate):
        plain.train_on_batch(WORDS[batch : batch + 3], TARGETS[batch : batch + 3])
        if (batch + 1) % accumulate == 0:
            history.append(plain.get_weights())
    shares = 0.1 * 0.9 ** np.arange(2, -1, -1) / (1 - 0.9**3)
    expected = [
        sum(share * value for share, value in zip(shares, values, strict=True)) for values in zip(*history, strict=True)
    ]

    average = MovingAverage(optimizer(), 0.9)
    model = compiled(small_model(), average)
    for batch in range(3 * accumulate):
        model.train_on_batch(WORDS[batch : batch + 3], TARGETS[batch : batch + 3])
    with average.averaged():
        for value, mean in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(value, mean, rtol=1e-5, atol=1e-6)
    for value, last in zip(model.get_weights(), history[-1], strict=True):
        np.testing.assert_allclose(value, last, rtol=1e-6, atol=1e-7)


def test_fit_ends_with_the_averaged_weights_and_float16_training_takes_the_average_along():
    average = MovingAverage(keras.optimizers.SGD(0.3), 0.9)
    model = compiled(small_model(), keras.optimizers.LossScaleOptimizer(average))
    weights = []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()))
    model.fit(WORDS, TARGETS, batch_size=8, epochs=2, verbose=0, callbacks=[keep], shuffle=False)
    for first, second, final in zip(*weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(final, (0.09 * first + 0.1 * second) / 0.19, rtol=1e-5, atol=1e-6)


def test_a_moving_average_survives_saving():
    config = keras.saving.serialize_keras_object(MovingAverage(keras.optimizers.SGD(0.25), 0.7))
    again = keras.saving.deserialize_keras_object(config)
    assert again.momentum == 0.7
    assert isinstance(again.inner_optimizer, keras.optimizers.SGD)
    assert float(to_numpy(again.learning_rate)) == 0.25


def test_a_moving_average_around_loss_scaling_is_refused():
    with pytest.raises(ConfigError, match="inside the loss scaling"):
        MovingAverage(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()))


def test_adversarial_training_takes_the_gradient_at_the_moved_table_and_leaves_the_table_in_place():
    clean = step(small_model())[0]
    moved = small_model()
    table = moved.get_layer("words").embeddings
    table.assign(to_numpy(table) + 0.7 * clean / np.sqrt((clean**2).sum()))
    expected = step(moved)
    plain = small_model()
    model = adversarial_model(plain, plain.get_layer("words").embeddings, 0.7)
    for gradient, wanted, other in zip(step(model), expected, step(small_model()), strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)
        assert np.abs(wanted - other).max() > 1e-3


def test_adversarial_training_leaves_rows_without_gradient_exactly_as_they_were():
    plain = small_model()
    table = plain.get_layer("words").embeddings
    before = to_numpy(table).copy()
    step(adversarial_model(plain, table, 0.7))
    unused = np.setdiff1d(np.arange(13), WORDS)
    assert len(unused)
    assert (to_numpy(table)[unused] == before[unused]).all()


def test_adversarial_training_reports_the_loss_and_works_in_half_precision():
    plain = small_model()
    model = adversarial_model(plain, plain.get_layer("words").embeddings, 0.1)
    compiled(model, keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0)))
    history = model.fit(WORDS, TARGETS, batch_size=8, verbose=0).history
    clean = compiled(small_model(), keras.optimizers.SGD(0.0)).fit(WORDS, TARGETS, batch_size=8, verbose=0).history
    assert clean["loss"][0] < history["loss"][0] < clean["loss"][0] + 0.2


@pytest.mark.parametrize("epsilon", [0, -1])
def test_an_adversarial_step_must_have_a_size(epsilon):
    model = small_model()
    with pytest.raises(ConfigError, match="above 0"):
        adversarial_model(model, model.get_layer("words").embeddings, epsilon)


def test_frozen_embeddings_cannot_be_attacked():
    model = small_model()
    model.get_layer("words").trainable = False
    with pytest.raises(ConfigError, match="frozen"):
        adversarial_model(model, model.get_layer("words").embeddings, 0.5)


def fit_with(values, **options):
    """Fit with these as the metric after each epoch; the model, weights of each epoch, history, evaluator."""
    model = compiled(small_model(), keras.optimizers.SGD(0.1))
    seen, values = [], iter(values)

    def evaluate():
        seen.append(model.get_weights())
        return {"f1": next(values), "other": 7.0}

    evaluator = Evaluator(evaluate, "f1", **options)
    history = model.fit(WORDS, TARGETS, batch_size=4, epochs=6, verbose=0, callbacks=[evaluator])
    return model, seen, history.history, evaluator


def test_training_ends_with_the_weights_of_the_best_epoch():
    model, seen, history, evaluator = fit_with([0.1, 0.5, 0.2, 0.5, 0.3, 0.4])
    for value, best, last in zip(model.get_weights(), seen[1], seen[-1], strict=True):
        assert (value == best).all()
        assert not (value == last).all()
    assert history["f1"] == [0.1, 0.5, 0.2, 0.5, 0.3, 0.4]
    assert history["other"] == [7.0] * 6
    assert (evaluator.best, evaluator.best_epoch) == (0.5, 1)


def test_training_stops_when_patience_is_at_an_end():
    _, seen, _, _ = fit_with([0.1, 0.5, 0.2, 0.4, 0.9, 0.9], patience=2)
    assert len(seen) == 4


def test_a_metric_that_the_evaluation_lacks_is_named():
    with pytest.raises(ConfigError, match="gives accuracy, but no 'f1'"):
        Evaluator(lambda: {"accuracy": 1.0}, "f1").on_epoch_end(0, {})


def test_dropout_repeats_itself_by_its_seed_alone():
    model = small_model(dropout=0.5)

    def draw(seed):
        with seeded_dropout(model, seed):
            return to_numpy(model(WORDS, training=True))

    state = random.getstate(), np.random.get_state()[1].tolist()
    assert (draw(3) == draw(3)).all()
    assert not (draw(3) == draw(4)).all()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state


def test_importing_tasks_and_training_loads_no_backend():
    program = (
        "import sys, bert4albert.tasks, bert4albert.training\n"
        "print([name for name in ('keras', 'tensorflow', 'jax', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow traces a step")
def test_fit_of_a_task_traces_its_step_once(monkeypatch):
    traces = []
    train_step = keras.Model.train_step

    def counted(model, data):
        traces.append(model)
        return train_step(model, data)

    monkeypatch.setattr(keras.Model, "train_step", counted)
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abc"])
    task = TextClassifier(build_model(TINY | {"num_hidden_layers": 1}), tokenizer, maxlen=16)
    task.fit([("a b", "x"), ("b c a", "y"), ("c", "x")], batch_size=2, epochs=1, verbose=0)
    assert len(traces) == 1
