"""Optimizers made by `extend_with_...` take the steps of bert4keras' formulas, worked out here in float64."""

import keras
import numpy as np
import pytest

from bert4albert.bert4keras import optimizers
from bert4albert.bert4keras.optimizers import Adam

STEPS, RATE = 10, 0.05
SCHEDULE = {3: 1.0, 8: 0.1}
TARGETS = {"kernel": np.linspace(-1, 1, 12).reshape(4, 3), "bias": np.array([0.5, -2.0, 0.25])}


def minimise(optimizer, names=("kernel", "bias")):
    """Take ten steps down sum(w - target)**2 / 2 from 1 + the target's sign; return the weights after each step."""
    variables = [keras.Variable(np.ones_like(TARGETS[n]) + np.sign(TARGETS[n]), dtype="float64", name=n) for n in names]
    path = []
    for _ in range(STEPS):
        optimizer.apply([variable - TARGETS[n] for variable, n in zip(variables, names, strict=True)], variables)
        path.append([np.array(keras.ops.convert_to_numpy(variable)) for variable in variables])
    return path


def adam(gradient, state, step):
    """Keras 2.3's Adam: what it adds to a weight, and its moments after it."""
    m, v = state
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    rate = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    return -rate * m / (np.sqrt(v) + 1e-7), (m, v)


def factor(t):
    """The line through (0, 0) and the points of SCHEDULE."""
    return np.interp(t, [0, *SCHEDULE], [0, *SCHEDULE.values()])


def expected(change, names=("kernel", "bias")):
    """The weights after each step, `change(name, old, new, t)` being what an extension makes of Adam's `new`."""
    weights = {n: np.ones_like(TARGETS[n]) + np.sign(TARGETS[n]) for n in names}
    states = {n: (0.0, 0.0) for n in names}
    path = []
    for t in range(STEPS):
        for n in names:
            step, states[n] = adam(weights[n] - TARGETS[n], states[n], t + 1)
            weights[n] = change(n, weights[n], weights[n] + step, t)
        path.append([weights[n].copy() for n in names])
    return path


def decayed(name, old, new, t):
    return new if name == "bias" else new - RATE * 0.1 * old


def adapted(name, old, new, t):
    if name == "bias":
        return new
    return old + (new - old) * np.linalg.norm(old) / np.linalg.norm((new - old) / RATE)


DECAY = {"weight_decay_rate": 0.1, "exclude_from_weight_decay": ["Norm", "bias"]}
CASES = {
    "adam": (Adam, {}, lambda n, old, new, t: new),
    "weight_decay": (optimizers.extend_with_weight_decay(Adam), DECAY, decayed),
    "layer_adaptation": (
        optimizers.extend_with_layer_adaptation(Adam),
        {"exclude_from_layer_adaptation": ["bias"]},
        adapted,
    ),
    "piecewise_linear_lr": (
        optimizers.extend_with_piecewise_linear_lr(Adam, name="AdamLR"),
        {"lr_schedule": SCHEDULE},
        lambda n, old, new, t: old + (new - old) * factor(t),
    ),
    "parameter_wise_lr": (
        optimizers.extend_with_parameter_wise_lr(Adam),
        {"paramwise_lr_schedule": {"kernel": 3, "bias": 0.1}},
        lambda n, old, new, t: old + (new - old) * {"kernel": 3, "bias": 0.1}[n],
    ),
    "schedule of decay": (
        optimizers.extend_with_piecewise_linear_lr(optimizers.extend_with_weight_decay(Adam)),
        {**DECAY, "lr_schedule": SCHEDULE},
        lambda n, old, new, t: old + (decayed(n, old, new, t) - old) * factor(t),
    ),
    "decay after schedule": (
        optimizers.extend_with_weight_decay(optimizers.extend_with_piecewise_linear_lr(Adam)),
        {**DECAY, "lr_schedule": SCHEDULE},
        lambda n, old, new, t: decayed(n, old, old + (new - old) * factor(t), t),
    ),
    "decay of schedule, v2": (
        optimizers.extend_with_weight_decay_v2(optimizers.extend_with_piecewise_linear_lr_v2(Adam)),
        {**DECAY, "lr_schedule": SCHEDULE},
        lambda n, old, new, t: old + (decayed(n, old, new, t) - old) * factor(t),
    ),
}


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="the formulas are worked out in float64, off on JAX")
@pytest.mark.parametrize("case", CASES)
def test_ten_steps_are_those_of_the_formulas(case):
    kind, arguments, change = CASES[case]
    for found, wanted in zip(minimise(kind(learning_rate=RATE, **arguments)), expected(change), strict=True):
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_gradients_add_up():
    accumulating = optimizers.extend_with_gradient_accumulation(keras.optimizers.SGD)
    path = minimise(accumulating(learning_rate=0.1, grad_accum_steps=3), ["bias"])
    weight, total, wanted = np.ones(3) + np.sign(TARGETS["bias"]), np.zeros(3), []
    for t in range(STEPS):
        gradient = weight - TARGETS["bias"]
        if t % 3 == 0:
            weight, total = weight - 0.1 * total / 3, np.zeros(3)
        total = total + gradient
        wanted.append(weight)
    np.testing.assert_allclose([step[0] for step in path], wanted, atol=1e-6)


def test_slow_weights_start_at_zero():
    looking = optimizers.extend_with_lookahead(keras.optimizers.SGD)
    path = minimise(looking(learning_rate=0.1, steps_per_slow_update=4, slow_step_size=0.5), ["bias"])
    weight, slow, wanted = np.ones(3) + np.sign(TARGETS["bias"]), np.zeros(3), []
    for t in range(STEPS):
        weight = weight - 0.1 * (weight - TARGETS["bias"])
        if t % 4 == 0:
            weight = slow = slow + 0.5 * (weight - slow)
        wanted.append(weight)
    np.testing.assert_allclose([step[0] for step in path], wanted, atol=1e-6)


def test_rows_without_a_gradient_stay():
    lazy = optimizers.extend_with_lazy_optimization(Adam)(learning_rate=0.1, include_in_lazy_optimization=["Embedding"])
    table = keras.Variable(np.ones((4, 3)), name="Embedding")
    lazy.apply([keras.ops.convert_to_tensor(np.ones((4, 3), "float32"))], [table])
    before = np.array(keras.ops.convert_to_numpy(table))
    lazy.apply([keras.ops.convert_to_tensor(np.array([[1.0] * 3, [0.0] * 3] * 2, "float32"))], [table])
    after = keras.ops.convert_to_numpy(table)
    assert (after[0] != before[0]).all()
    np.testing.assert_array_equal(after[1], before[1])


def test_averages_are_corrected_and_taken_back():
    kind = optimizers.extend_with_exponential_moving_average(Adam, name="AdamEMA")
    optimizer = kind(learning_rate=RATE, ema_momentum=0.9)
    path = minimise(optimizer)
    wanted = sum(0.1 * 0.9 ** (STEPS - 1 - t) * path[t][0] for t in range(STEPS)) / (1 - 0.9**STEPS)
    optimizer.apply_ema_weights()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(optimizer.model_weights[0]), wanted, atol=1e-6)
    optimizer.reset_old_weights()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(optimizer.model_weights[0]), path[-1][0])


def test_an_optimizer_is_rebuilt_from_its_config():
    kind = optimizers.extend_with_piecewise_linear_lr(optimizers.extend_with_weight_decay(Adam), name="AdamWLR")
    first = kind(learning_rate=RATE, lr_schedule=SCHEDULE, weight_decay_rate=0.1)
    again = kind.from_config(first.get_config())
    np.testing.assert_allclose(minimise(first)[-1][0], minimise(again)[-1][0], atol=1e-9)


def test_models_of_bert4keras_count_as_they_did_on_tensorflow_1():
    # At the first step of Keras 2.3's Adam its moments were corrected for two steps: 0.744 of the learning rate.
    variable = keras.Variable(np.zeros(3), name="bias")
    variable.keras2_name = "Embedding-Norm/beta"
    Adam(0.01).apply([keras.ops.ones(3)], [variable])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), -0.00744, atol=1e-5)
