"""Copies trained as one and then let go, and copies pulled toward their mean, on every backend."""

import functools
import re

import keras
import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import TINY

from bert4albert import ConfigError, build_model
from bert4albert.training import (
    GradualUnsharing,
    MovingAverage,
    SharingDecay,
    adamw,
    adversarial_model,
    layerwise,
    warmup_linear_decay,
)
from bert4albert.training.phases import steps_of

CONFIG = TINY | {"num_hidden_layers": 4, "hidden_act": "gelu_erf"}
RANDOM = np.random.default_rng(7)
TOKENS = RANDOM.integers(1, 211, (6, 9)).astype("int32")
TOKENS[::2, 6:] = 0
INPUTS = [TOKENS, (np.arange(9) > 4) * np.ones_like(TOKENS)]
TARGETS = RANDOM.integers(0, 3, 6).astype("int32")


def each(*names):
    """Cases by optimizer; where a step is compiled for seconds only the light ones run with every suite."""
    light = ("adamw", "sgd", "momentum")
    compiles = keras.backend.backend() != "torch"
    return [pytest.param(name, marks=[pytest.mark.slow] * (compiles and name not in light)) for name in names]


@functools.cache
def checkpoint(groups, layers):
    """A config and arrays of a model, none of them trivial."""
    config = CONFIG | {"num_hidden_groups": groups, "num_hidden_layers": layers}
    model = build_model(config)
    values = np.random.default_rng(3)
    return config, {
        name: (values.normal(0, 0.2, weight.shape) + (weight.name == "gamma")).astype("float32")
        for name, weight in model.named_weights()
    }


def classifier(model="albert_unshared", groups=1, layers=4):
    """A trunk and a classifier on it, which compute the same whatever the sharing; two layers compile fast enough."""
    trunk = build_model(*checkpoint(groups, layers), model)
    head = keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed=4), name="logits")
    return trunk, keras.Model(trunk.inputs, head(trunk.output[:, 0]))


def compiled(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    return model


def losses(model, steps, start=0):
    """The loss of each batch of a compiled model; batches differ in rows and their order."""
    history = []
    for step in range(start, start + steps):
        rows = np.random.default_rng(step).permutation(6)[:4]
        history.append(float(model.train_on_batch([column[rows] for column in INPUTS], TARGETS[rows])))
    return history


def apply(model, optimizer, batches, start=0):
    """Let an optimizer train on made-up gradients, which need no compiling, and return it."""
    for batch in range(start, start + batches):
        values = np.random.default_rng(batch)
        grads = [keras.ops.convert_to_tensor(values.normal(0, 0.1, w.shape).astype("float32")) for w in model.weights]
        optimizer.apply(grads, model.trainable_variables)
    return optimizer


def copies(trunk, ending=""):
    """Every weight of a block -> its values in each block."""
    found = {}
    for name, weight in trunk.named_weights():
        if name.startswith("encoder/") and name.endswith(ending):
            found.setdefault(name.split("/", 2)[2], []).append(to_numpy(weight).copy())
    return found


def all_equal(values):
    return all((value == values[0]).all() for value in values)


def optimizer_for(trunk, name):
    """A new optimizer of each kind that everything must work with."""
    sgd = keras.optimizers.SGD
    rate = warmup_linear_decay(1e-3, 30, 0.2)
    make = {
        "adamw": lambda: adamw(5e-4, clipnorm=0.3),
        "sgd": lambda: sgd(0.05, global_clipnorm=0.5),
        "momentum": lambda: sgd(0.02, momentum=0.9, clipnorm=0.3),
        "accumulate": lambda: adamw(rate, clipnorm=0.1, accumulate=3),
        "layerwise momentum": lambda: layerwise(trunk, lambda factor: sgd(0.05 * factor, momentum=0.9), 0.7),
        "layerwise": lambda: layerwise(
            trunk, lambda factor: adamw(warmup_linear_decay(1e-3 * factor, 40, 0.2), clipnorm=0.3, accumulate=2), 0.7
        ),
    }
    return make[name]()


NAMES = ["adamw", "sgd", "momentum", "accumulate", "layerwise momentum", "layerwise"]
FEW = ["adamw", "layerwise"]


@pytest.mark.parametrize("name", each(*FEW))
def test_all_copies_tied_train_as_the_shared_model_does(name):
    shared_trunk, shared = classifier("albert", layers=2)
    trunk, unshared = classifier(layers=2)
    compiled(shared, optimizer_for(shared_trunk, name))
    compiled(unshared, GradualUnsharing(optimizer_for(trunk, name), trunk, {0: "shared"}))
    expected = losses(shared, 20)
    np.testing.assert_allclose(losses(unshared, 20), expected, rtol=1e-5)
    reference = to_numpy(shared_trunk(INPUTS))
    assert np.abs(to_numpy(trunk(INPUTS)) - reference).max() <= 1e-5 * np.abs(reference).max()
    assert min(expected) < 0.95 * expected[0]


@pytest.mark.eager
def test_all_copies_tied_end_with_the_weights_of_the_shared_model():
    shared_trunk, shared = classifier("albert", layers=2)
    trunk, unshared = classifier(layers=2)
    compiled(shared, optimizer_for(shared_trunk, "sgd"))
    compiled(unshared, GradualUnsharing(optimizer_for(trunk, "sgd"), trunk, {0: "shared"}))
    np.testing.assert_allclose(losses(unshared, 20), losses(shared, 20), rtol=1e-5)
    expected = copies(shared_trunk)
    for name, values in copies(trunk).items():
        for value in values:
            reference = expected[name][0]
            assert np.abs(value - reference).max() <= 1e-5 * np.abs(reference).max(), name


def test_copies_are_let_go_without_compiling_again():
    traces = []

    class Watched(keras.optimizers.AdamW):
        def apply(self, *arguments, **options):
            traces.append(1)
            super().apply(*arguments, **options)

    trunk, model = classifier(layers=2)
    compiled(model, GradualUnsharing(Watched(1e-3, global_clipnorm=1.0), trunk, {0: "shared", 50: "unshared"}))
    losses(model, 50)
    assert all(map(all_equal, copies(trunk).values()))
    before = len(traces)
    losses(model, 2, 50)
    assert len(traces) == before + (2 if keras.backend.backend() == "torch" else 0)
    assert not any(map(all_equal, copies(trunk, "kernel").values()))


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="about TensorFlow's optimizer of graphs")
def test_large_copies_train_on_after_they_are_let_go():
    config = {"vocab_size": 21128, "hidden_size": 312, "num_hidden_layers": 4, "intermediate_size": 1248}
    config |= {"num_attention_heads": 12, "embedding_size": 128, "num_hidden_groups": 1}
    weights = {name: to_numpy(weight) for name, weight in build_model(config).named_weights()}
    trunk = build_model(config, weights, sharing="unshared")
    model = keras.Model(trunk.inputs, keras.layers.Dense(3)(trunk.output[:, 0]))
    tokens = RANDOM.integers(5, 21128, (32, 128)).astype("int32")
    compiled(model, GradualUnsharing(adamw(1e-4), trunk, {0: "shared", 1: "unshared"}))
    for _ in range(4):
        assert np.isfinite(model.train_on_batch([tokens, 0 * tokens], np.arange(32) % 3))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="about TensorFlow's optimizer of graphs")
def test_gradients_are_not_summed_by_additions_that_tensorflow_would_gather():
    """In large models such a sum inside a branch that is not taken makes the next step fail."""
    import tensorflow as tf

    from bert4albert.training.gradual_unsharing import _sums

    weights = [keras.Variable(np.zeros((5, 3))) for _ in range(4)]
    graph = tf.function(lambda *gradients: _sums([weights], weights, list(gradients)))
    operations = graph.get_concrete_function(*[tf.TensorSpec((5, 3))] * 4).graph.get_operations()
    assert not [operation.name for operation in operations if operation.type.startswith("Add")]


@pytest.mark.parametrize("name", each(*NAMES))
def test_one_step_is_that_of_the_shared_model_whatever_the_optimizer(name):
    """On gradients of copies that add up to those of the shared block, also where several batches make a step."""
    groups = 1 + NAMES.index(name) % 2
    shared_trunk, shared = classifier("albert", groups)
    trunk, unshared = classifier(groups=groups)
    one = optimizer_for(shared_trunk, name)
    other = GradualUnsharing(optimizer_for(trunk, name), trunk, {0: "shared"})
    names = {id(weight): key for key, weight in trunk.named_weights()}
    for batch in range(2 * other.batches_a_step):
        values, sums, grads = np.random.default_rng(batch), {}, []
        for weight in unshared.trainable_variables:
            grads.append(values.normal(0, 0.1, weight.shape).astype("float32"))
            key = names.get(id(weight), weight.path)
            key = re.sub(r"block_(\d)", lambda match: f"block_{int(match[1]) * groups // 4}", key)
            sums[key] = sums.get(key, 0) + grads[-1]
        shared_names = {id(weight): key for key, weight in shared_trunk.named_weights()}
        totals = [sums[shared_names.get(id(weight), weight.path)] for weight in shared.trainable_variables]
        other.apply([keras.ops.convert_to_tensor(grad) for grad in grads], unshared.trainable_variables)
        one.apply([keras.ops.convert_to_tensor(total) for total in totals], shared.trainable_variables)
    expected = copies(shared_trunk)
    for name_, values in copies(trunk).items():
        for depth, value in enumerate(values):
            np.testing.assert_allclose(value, expected[name_][depth * groups // 4], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", each(*FEW))
def test_copies_let_go_at_step_0_train_exactly_as_unshared_ones(name):
    trunk, plain = classifier()
    other, model = classifier()
    apply(plain, optimizer_for(trunk, name), 4)
    apply(model, GradualUnsharing(optimizer_for(other, name), other, {0: "unshared"}), 4)
    for one, two in zip(plain.get_weights(), model.get_weights(), strict=True):
        assert (one == two).all()


@pytest.mark.parametrize("name", each(*NAMES))
def test_tied_copies_and_their_state_stay_equal_to_the_bit_and_part_when_they_are_let_go(name):
    trunk, model = classifier()
    optimizer = GradualUnsharing(optimizer_for(trunk, name), trunk, {0: "shared", 4: [0, 0, 1, 1]})
    batches = 4 * optimizer.batches_a_step
    apply(model, optimizer, batches)
    assert all(map(all_equal, copies(trunk).values()))
    # Without the name of the optimizer, of which there may be several.
    state = {variable.path.split("/", 1)[1]: to_numpy(variable) for variable in optimizer.variables}
    twins = [path for path in state if "block_0" in path]
    assert twins or name == "sgd"
    for path in twins:
        assert all_equal([state[path.replace("block_0", f"block_{block}")] for block in range(4)]), path
    apply(model, optimizer, batches, batches)
    for values in copies(trunk).values():
        assert all_equal(values[:2])
        assert all_equal(values[2:])
        assert not all_equal(values)


@pytest.mark.eager
@pytest.mark.parametrize("name", each("adamw", "layerwise momentum", "layerwise"))
def test_copies_let_go_go_on_with_their_own_gradients_and_rates(name):
    """After the last tied step an optimizer of its own, with the same state, goes on in the same way."""
    trunk, model = classifier()
    optimizer = GradualUnsharing(optimizer_for(trunk, name), trunk, {0: "shared", 2: "unshared"})
    batches = 2 * optimizer.batches_a_step
    apply(model, optimizer, batches)
    other_trunk, other = classifier()
    plain = optimizer_for(other_trunk, name)
    plain.build(other.trainable_variables)

    def state_of(variables):
        return [variable for variable in variables if not variable.path.endswith("learning_rate")]

    found = [*model.weights, *state_of(optimizer.inner_optimizer.variables)]
    for target, source in zip([*other.weights, *state_of(plain.variables)], found, strict=True):
        target.assign(to_numpy(source))
    apply(model, optimizer, batches, batches)
    apply(other, plain, batches, batches)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_it_works_with_a_moving_average_adversarial_training_and_half_precision():
    trunk, model = classifier(layers=2)
    attacked = adversarial_model(model, trunk.embeddings.word.embeddings, 0.3)
    optimizer = MovingAverage(GradualUnsharing(adamw(2e-3), trunk, {0: "shared", 3: "unshared"}), 0.9)
    compiled(attacked, keras.optimizers.LossScaleOptimizer(optimizer))
    losses(attacked, 3)
    assert all(map(all_equal, copies(trunk).values()))
    with optimizer.averaged():
        assert all(map(all_equal, copies(trunk).values()))
    losses(attacked, 3, 3)
    assert not any(map(all_equal, copies(trunk, "kernel").values()))


@pytest.mark.eager
@pytest.mark.parametrize("name", each("adamw", "layerwise"))
def test_the_state_is_saved_and_restored_with_that_of_the_optimizer(tmp_path, name):
    trunk, model = classifier()
    optimizer = GradualUnsharing(optimizer_for(trunk, name), trunk, {0: "shared", 4: "unshared"})
    compiled(model, apply(model, SharingDecay(optimizer, trunk, 30.0), 3))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one, two in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        assert one.path == two.path
        assert (to_numpy(one) == to_numpy(two)).all()
    for one in (model, again):
        # Keras forgets `exclude_from_weight_decay`.
        for trainer in one.optimizer.trainers:
            trainer.weight_decay = None
        apply(one, one.optimizer, 8, 3)
    for one, two in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", each(*FEW))
def test_no_strength_is_the_plain_run_exactly(name):
    trunk, plain = classifier()
    other, model = classifier()
    apply(plain, optimizer_for(trunk, name), 4)
    apply(model, SharingDecay(optimizer_for(other, name), other, 0), 4)
    for one, two in zip(plain.get_weights(), model.get_weights(), strict=True):
        assert (one == two).all()


@pytest.mark.parametrize("name", each(*FEW))
def test_a_very_large_strength_keeps_copies_of_one_block_together_and_blocks_apart(name):
    trunk, model = classifier(groups=2)
    apply(model, SharingDecay(optimizer_for(trunk, name), trunk, 1e9), 6)
    for values in copies(trunk).values():
        np.testing.assert_allclose(values[1], values[0], atol=1e-6)
        np.testing.assert_allclose(values[3], values[2], atol=1e-6)
        assert np.abs(values[0] - values[2]).max() > 1e-3


@pytest.mark.parametrize("name", each("sgd", "accumulate", "layerwise"))
def test_every_copy_moves_toward_the_mean_by_its_rate_times_the_strength(name):
    """Against the definition: each step of the plain optimizer, followed by the pull, computed in NumPy."""
    strength = 40.0
    trunk, model = classifier()
    apply(model, SharingDecay(optimizer_for(trunk, name), trunk, strength), 6)
    other, plain = classifier()
    optimizer = optimizer_for(other, name)
    named = dict(other.named_weights())
    for batch in range(6):
        trainers = getattr(optimizer, "optimizers", [optimizer])
        rates = {id(trainer): float(to_numpy(trainer.learning_rate)) for trainer in trainers}
        apply(plain, optimizer, 1, batch)
        if (batch + 1) % (trainers[0].gradient_accumulation_steps or 1):
            continue
        for weight_name in copies(other):
            group = [named[f"encoder/block_{block}/{weight_name}"] for block in range(4)]
            mean = np.mean([to_numpy(weight).astype("float64") for weight in group], axis=0)
            for weight in group:
                trainer = optimizer.trainer_of(weight.path) if hasattr(optimizer, "trainer_of") else optimizer
                pull = min(1.0, rates[id(trainer)] * strength)
                weight.assign(to_numpy(weight) + pull * (mean - to_numpy(weight)))
    for one, two in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_a_compiled_model_pulls_its_copies_together():
    trunk, model = classifier(layers=2)
    compiled(model, SharingDecay(adamw(1e-3), trunk, 1e9))
    losses(model, 3)
    for values in copies(trunk).values():
        np.testing.assert_allclose(values, values[:1] * 2, atol=1e-6)


@pytest.mark.parametrize(("name", "decay_outside"), [("adamw", False), ("layerwise", True)])
def test_time_and_strength_together_keep_tied_copies_equal(name, decay_outside):
    trunk, model = classifier()
    plan, optimizer = {0: [0, 0, 1, 1], 4: "unshared"}, optimizer_for(trunk, name)
    if decay_outside:
        optimizer = SharingDecay(GradualUnsharing(optimizer, trunk, plan), trunk, 10.0)
    else:
        optimizer = GradualUnsharing(SharingDecay(optimizer, trunk, 10.0), trunk, plan)
    apply(model, optimizer, 4)
    for values in copies(trunk, "kernel").values():
        assert all_equal(values[:2])
        assert not all_equal(values)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({0: "unshared", 5: "shared"}, "joins at step 5"),
        ({0: [0, 0, 1, 1], 5: [0, 1, 1, 0]}, "joins at step 5"),
        ({-1: "shared"}, "must map steps"),
        ({0.5: "unshared"}, "must map steps"),
        ({True: "unshared"}, "must map steps"),
        ("unshared", "must map steps"),
        ({0: "unsharde"}, "sharing"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused(plan, message):
    trunk, _ = classifier()
    with pytest.raises(ConfigError, match=message):
        GradualUnsharing(adamw(1e-3), trunk, plan)


def test_parts_are_let_go_one_after_another():
    trunk, model = classifier()
    plan = {0: "shared", 2: {"feed_forward": "unshared"}, 4: {"feed_forward": "unshared", "attention": [0, 0, 1, 1]}}
    optimizer = GradualUnsharing(adamw(1e-3), trunk, plan)
    apply(model, optimizer, 4)
    fed = ("intermediate", "output/")
    assert all(all_equal(values) != name.startswith(fed) for name, values in copies(trunk).items())
    apply(model, optimizer, 2, 4)
    values = copies(trunk)["attention/key/kernel"]
    assert all_equal(values[:2])
    assert not all_equal(values)
    assert all_equal(copies(trunk)["output_norm/gamma"])


def test_parts_apart_and_a_rate_for_each_depth_exclude_each_other():
    trunk, _ = classifier()
    with pytest.raises(ConfigError, match="tie whole blocks"):
        GradualUnsharing(optimizer_for(trunk, "layerwise"), trunk, {0: {"feed_forward": "unshared"}})


def test_copies_that_are_not_equal_cannot_be_tied():
    trunk, _ = classifier()
    dict(trunk.named_weights())["encoder/block_2/output/bias"].assign(np.zeros(48))
    with pytest.raises(ConfigError, match="block_2/output/bias differs"):
        GradualUnsharing(adamw(1e-3), trunk, {0: "shared"})
    GradualUnsharing(adamw(1e-3), trunk, {0: [0, 0, 1, 2]})


def test_a_shared_trunk_cannot_be_unshared_by_time():
    trunk, _ = classifier("albert")
    with pytest.raises(ConfigError, match="albert_unshared"):
        GradualUnsharing(adamw(1e-3), trunk, {0: "shared", 3: "unshared"})


def test_a_frozen_block_cannot_be_tied_to_one_that_is_trained():
    trunk, model = classifier()
    trunk.encoder.blocks[1].trainable = False
    with pytest.raises(ConfigError, match="is frozen"):
        GradualUnsharing(adamw(1e-3), trunk, {0: "shared"}).build(model.trainable_variables)


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf"), "0.1", None, True])
def test_a_strength_is_a_number_of_0_or_more(strength):
    trunk, _ = classifier()
    with pytest.raises(ConfigError, match="strength"):
        SharingDecay(adamw(1e-3), trunk, strength)


def test_a_trunk_without_copies_has_nothing_to_pull():
    trunk, _ = classifier("albert")
    with pytest.raises(ConfigError, match="albert_unshared"):
        SharingDecay(adamw(1e-3), trunk, 0.1)


@pytest.mark.once
def test_parts_of_the_training_become_steps():
    assert steps_of({0: "shared", 0.5: "groups:2", 7: "unshared"}, 13) == {0: "shared", 6: "groups:2", 7: "unshared"}
    assert steps_of({0: "shared", 0.1: "unshared"}, 5) == {0: "unshared"}
    for key in (1.0, 1.5, -1, -0.5, True, "0.5"):
        with pytest.raises(ConfigError, match="unshare_at has the key"):
            steps_of({0: "shared", key: "unshared"}, 10)
