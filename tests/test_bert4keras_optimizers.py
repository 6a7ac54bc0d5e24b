"""Optimizers made by `extend_with_...` take the steps of bert4keras' formulas, worked out here in float64."""

import keras
import numpy as np
import pytest

from bert4albert.bert4keras import backend, optimizers
from bert4albert.bert4keras.optimizers import Adam
from bert4albert.errors import ConfigError

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


@pytest.fixture
def in_float64():
    """JAX computes in float64 only where it is asked to."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("in_float64")
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


EVERYTHING = {
    "grad_accum_steps": 2,
    "lr_schedule": SCHEDULE,
    "weight_decay_rate": 0.1,
    "paramwise_lr_schedule": {"kernel": 2},
    "include_in_lazy_optimization": ["kernel"],
    "steps_per_slow_update": 3,
    "ema_momentum": 0.5,
}


def everything(base):
    """Extend an optimizer by all there is."""
    for name in ("weight_decay", "layer_adaptation", "piecewise_linear_lr", "parameter_wise_lr", "lazy_optimization"):
        base = getattr(optimizers, f"extend_with_{name}")(base)
    base = optimizers.extend_with_gradient_accumulation(optimizers.extend_with_lookahead(base))
    return optimizers.extend_with_exponential_moving_average(base)(learning_rate=RATE, **EVERYTHING)


@pytest.mark.parametrize("base", [Adam, optimizers.AdaFactor, optimizers.Lion])
def test_compiled_training_takes_the_same_steps(base):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, use_bias=False, kernel_initializer="ones")])
    model.compile(everything(base), keras.losses.MeanSquaredError(reduction="sum"))
    targets = TARGETS["kernel"].astype("float32")
    model.fit(np.eye(4), targets, batch_size=4, epochs=5, verbose=0)
    by_hand, kernel = everything(base), keras.Variable(np.ones((4, 3)), name="kernel")
    for _ in range(5):
        by_hand.apply([2 / 3 * (kernel - targets)], [kernel])
    np.testing.assert_allclose(model.get_weights()[0], keras.ops.convert_to_numpy(kernel), atol=1e-5)
    model.optimizer.apply_ema_weights()
    by_hand.apply_ema_weights()
    np.testing.assert_allclose(model.get_weights()[0], keras.ops.convert_to_numpy(kernel), atol=1e-5)
    model.optimizer.reset_old_weights()
    assert np.abs(model.get_weights()[0] - keras.ops.convert_to_numpy(kernel)).max() > 1e-3


def test_a_line_starts_from_zero_or_is_level_before_its_first_point():
    steps = np.array([0.0, 0.25, 0.5, 1.5, 9.0], "float32")
    points = {0.5: 1.0, 2.5: 0.0}
    for from_zero, wanted in ((True, [0, 0.5, 1, 0.5, 0]), (False, [1, 1, 1, 0.5, 0])):
        found = backend.piecewise_linear(steps, points, from_zero=from_zero)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), wanted, atol=1e-6)


def one_step(optimizer, gradients):
    """Take a step from 1 with each gradient; return by how much each weight moved."""
    weights = [keras.Variable(np.ones_like(g), dtype="float32", name=f"w{i}") for i, g in enumerate(gradients)]
    optimizer.apply([keras.ops.convert_to_tensor(g, "float32") for g in gradients], weights)
    return [1 - keras.ops.convert_to_numpy(weight) for weight in weights]


def test_the_rate_may_be_called_lr():
    for kind in (Adam, optimizers.extend_with_weight_decay(Adam), optimizers.AdaFactor, optimizers.Lion):
        assert float(kind(lr=2e-5).learning_rate) == pytest.approx(2e-5)
        with pytest.raises(ConfigError, match="InverseTimeDecay"):
            kind(decay=1e-3)


@pytest.mark.parametrize("base", [keras.optimizers.SGD, Adam])
def test_clipnorm_is_the_norm_of_all_gradients(base):
    clipped = optimizers.extend_with_weight_decay(base)(0.1, clipnorm=1.0, exclude_from_weight_decay=["."])
    assert (clipped.clipnorm, clipped.global_clipnorm) == (None, 1.0)
    assert type(clipped).from_config(clipped.get_config()).global_clipnorm == 1.0
    if base is not Adam:
        np.testing.assert_allclose(one_step(clipped, [np.array([3.0]), np.array([4.0])]), [[0.06], [0.08]], rtol=1e-5)


def test_optimizers_of_older_files_clip_each_gradient_alone():
    clipped = Adam.from_config({**Adam(0.1).get_config(), "clipnorm": 1.0})
    assert (clipped.clipnorm, clipped.global_clipnorm) == (1.0, None)


def test_amsgrad_divides_by_the_highest_velocity():
    optimizer, plain = Adam(0.1, amsgrad=True), Adam(0.1)
    moved = {}
    for name, one in (("amsgrad", optimizer), ("plain", plain)):
        weight = keras.Variable(np.zeros(1), name="w")
        for gradient in (10.0, 0.0):
            one.apply([keras.ops.convert_to_tensor([gradient])], [weight])
        moved[name] = float(keras.ops.convert_to_numpy(weight)[0])
    m = [1.0, 0.9]
    v = {"amsgrad": [0.1, 0.1], "plain": [0.1, 0.0999]}
    for name, velocities in v.items():
        steps = [np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m[t - 1] / np.sqrt(velocities[t - 1]) for t in (1, 2)]
        np.testing.assert_allclose(moved[name], -0.1 * sum(steps), rtol=1e-5)


def test_weights_decay_by_adafactors_own_rate():
    decaying = optimizers.extend_with_weight_decay(optimizers.AdaFactor)(learning_rate=None, weight_decay_rate=0.5)
    np.testing.assert_allclose(one_step(decaying, [np.zeros(3)]), [[0.01 * 0.5] * 3], rtol=1e-4)
    again = type(decaying).from_config(decaying.get_config())
    np.testing.assert_allclose(one_step(again, [np.zeros(3)]), [[0.01 * 0.5] * 3], rtol=1e-4)
    unscaled = optimizers.AdaFactor(learning_rate=None, multiply_by_parameter_scale=False)
    np.testing.assert_allclose(one_step(unscaled, [np.ones(3)]), [[0.05 * 0.01] * 3], rtol=1e-3)


def test_adafactors_own_rate_goes_on_from_older_files():
    def adafactor():
        made = optimizers.AdaFactor(learning_rate=None, beta1=0.9)
        made.build([keras.Variable(np.ones((2, 3)), name="w")])
        return made

    first, again, older = adafactor(), adafactor(), adafactor()
    state = {str(i): np.full(variable.shape, i + 3.0) for i, variable in enumerate(first.variables)}
    again.load_own_variables(state)
    count, *rest = state.values()
    older.load_own_variables({str(i): value for i, value in enumerate([count, np.array(1.0), *rest])})
    for variables in zip(again.variables, older.variables, state.values(), strict=True):
        one, other, wanted = map(keras.ops.convert_to_numpy, variables)
        np.testing.assert_array_equal(one, wanted)
        np.testing.assert_array_equal(other, wanted)


def test_adam_of_keras_is_that_of_bert4keras_when_it_is_extended():
    assert issubclass(optimizers.extend_with_weight_decay(keras.optimizers.Adam), Adam)


def test_models_of_bert4keras_count_as_they_did_on_tensorflow_1():
    # At the first step of Keras 2.3's Adam its moments were corrected for two steps: 0.744 of the learning rate.
    variable = keras.Variable(np.zeros(3), name="bias")
    variable.keras2_name = "Embedding-Norm/beta"
    Adam(0.01).apply([keras.ops.ones(3)], [variable])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), -0.00744, atol=1e-5)
