"""The trunk behaves like any Keras model: padding, lengths, training, saving, mixed precision."""

import keras
import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import untidy

from bert4albert import ConfigError, DataError, build_model, trunk_of
from bert4albert.checkpoint.names import count_parameters, weight_shapes

MODELS = {
    "albert": {"model": "albert"},
    "albert_unshared": {"model": "albert_unshared"},
    "bert": {"model": "bert"},
    "inner_groups": {"model": "albert", "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    "own_schedule": {"sharing": [0, 1, 0]},
    "projected_words": {"projected_words": True},
}
HEADS = {
    "sequence": {},
    "pool": {"with_pool": True},
    "nsp_and_mlm": {"with_nsp": True, "with_mlm": True},
    "unilm": {"application": "unilm"},
}


def build(config, model="albert", **options):
    return untidy(build_model(config, **MODELS[model], **options))


def outputs_of(model, batch):
    outputs = model([batch.token_ids, batch.segment_ids])
    return [to_numpy(o) for o in (outputs if isinstance(outputs, list) else [outputs])]


@pytest.mark.parametrize("model", MODELS)
def test_weights_are_named_and_shaped_as_announced(tiny_config, model):
    trunk = build(tiny_config, model, with_nsp=True, with_mlm=True)
    shapes = {name: tuple(weight.shape) for name, weight in trunk.named_weights()}
    assert shapes == weight_shapes(trunk.config)
    assert count_parameters(shapes.values()) == trunk.count_params()


@pytest.mark.parametrize("model", MODELS)
def test_one_hidden_state_for_each_block_application(tiny_config, model):
    trunk = build(tiny_config, model)
    assert len(trunk.hidden_states) == len(trunk.config.sharing)
    assert trunk.hidden_states[-1] is trunk.output
    assert trunk.pre_norm_output.shape == trunk.output.shape


@pytest.mark.parametrize(("heads", "count"), [("sequence", 1), ("pool", 1), ("unilm", 1), ("nsp_and_mlm", 2)])
def test_one_output_is_a_tensor_and_two_are_a_list(tiny_config, heads, count):
    output = build(tiny_config, **HEADS[heads]).output
    assert isinstance(output, list) == (count == 2)
    if count == 2:
        assert [tuple(o.shape) for o in output] == [(None, 2), (None, None, 211)]


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("model", ["albert", "albert_unshared", "projected_words"])
def test_a_padded_batch_equals_its_rows_alone(tiny_config, batch, model, heads):
    trunk = build(tiny_config, model, **HEADS[heads])
    padded = outputs_of(trunk, batch)
    for row, length in enumerate(batch.lengths):
        alone = trunk([batch.token_ids[row : row + 1, :length], batch.segment_ids[row : row + 1, :length]])
        for whole, single in zip(padded, alone if isinstance(alone, list) else [alone], strict=True):
            single = to_numpy(single)[0]
            ours = whole[row] if whole.ndim == 2 else whole[row, :length]
            assert np.abs(ours - single).max() < 1e-5


def test_first_position_is_never_masked_even_in_a_row_of_padding(tiny_config, batch):
    trunk = build(tiny_config)
    empty = np.zeros_like(batch.token_ids)
    assert np.isfinite(to_numpy(trunk([empty, empty]))).all()


def test_an_explicit_attention_mask_can_hide_any_position(tiny_config, batch):
    trunk = build(tiny_config)
    embedded = trunk.embeddings(batch.token_ids, batch.segment_ids)
    attention_mask = (batch.token_ids > 0).astype("int32")
    same = to_numpy(trunk.encoder(embedded, attention_mask).last)
    assert np.abs(same - outputs_of(trunk, batch)[0]).max() < 1e-6
    attention_mask[:, 0] = 0
    assert np.abs(to_numpy(trunk.encoder(embedded, attention_mask).last) - same).max() > 1e-3


def test_masked_positions_give_the_same_rows_as_all_positions(tiny_config, batch):
    everywhere = build(tiny_config, with_mlm="linear")
    gathered = build_model(tiny_config, with_mlm="linear", masked_positions=True)
    gathered.set_weights(everywhere.get_weights())
    positions = np.array([[1, 4, 12], [0, 8, 3], [3, 3, 0]])
    rows = to_numpy(gathered([batch.token_ids, batch.segment_ids, positions]))
    expected = np.take_along_axis(outputs_of(everywhere, batch)[0], positions[:, :, None], axis=1)
    assert np.abs(rows - expected).max() < 1e-5


def test_position_ids_of_ones_own_equal_the_usual_ones(tiny_config, batch):
    usual = build(tiny_config)
    custom = build_model(tiny_config, custom_position_ids=True)
    custom.set_weights(usual.get_weights())
    positions = np.broadcast_to(np.arange(batch.token_ids.shape[1]), batch.token_ids.shape)
    ours = to_numpy(custom([batch.token_ids, batch.segment_ids, positions]))
    assert np.abs(ours - outputs_of(usual, batch)[0]).max() < 1e-6


def test_hierarchical_positions_go_beyond_the_table_and_agree_on_it(tiny_config):
    config = tiny_config | {"max_position_embeddings": 7}
    usual = build(config)
    longer = build_model(config, hierarchical_position=0.3)
    longer.set_weights(usual.get_weights())
    ids = np.random.default_rng(0).integers(1, 211, (2, 49))
    short = [ids[:, :7], np.zeros((2, 7))]
    assert np.abs(to_numpy(longer(short)) - to_numpy(usual(short))).max() < 1e-5
    assert to_numpy(longer([ids, np.zeros_like(ids)])).shape == (2, 49, 48)
    with pytest.raises(ConfigError, match=r"50 tokens.*49 positions"):
        longer([np.ones((1, 50)), np.ones((1, 50))])


def test_a_sequence_longer_than_the_positions_names_both_numbers(tiny_config):
    trunk = build(tiny_config)
    with pytest.raises(ConfigError, match=r"65 tokens.*64 positions"):
        trunk([np.ones((2, 65)), np.ones((2, 65))])


def test_a_length_that_compiled_code_did_not_know_still_names_both_numbers(tiny_config):
    trunk = build(tiny_config)
    for length in (5, 7):
        trunk.predict([np.ones((2, length))] * 2, verbose=0)
    with pytest.raises(Exception, match=r"65.*64"):
        trunk.predict([np.ones((2, 65))] * 2, verbose=0)


def test_lengths_may_differ_between_calls_of_predict_and_fit(tiny_config):
    trunk = build(tiny_config, "albert_unshared", with_pool=True)
    classifier = keras.Model(trunk.inputs, keras.layers.Dense(2, kernel_initializer=trunk.initializer)(trunk.output))
    classifier.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    generator = np.random.default_rng(1)
    before = [w.copy() for w in classifier.get_weights()]
    for rows, length in ((4, 11), (3, 6)):
        inputs = [generator.integers(1, 211, (rows, length)), np.zeros((rows, length), "int32")]
        history = classifier.fit(inputs, np.arange(rows) % 2, verbose=0)
        assert np.isfinite(history.history["loss"][0])
        assert classifier.predict(inputs, verbose=0).shape == (rows, 2)
    moved = [np.abs(a - b).max() > 0 for a, b in zip(before, classifier.get_weights(), strict=True)]
    assert all(moved), "a weight did not train"


def test_ids_may_be_floats(tiny_config, batch):
    trunk = build(tiny_config)
    as_floats = trunk.predict([batch.token_ids.astype("float32"), batch.segment_ids.astype("float32")], verbose=0)
    assert np.abs(as_floats - outputs_of(trunk, batch)[0]).max() < 1e-6


def with_head(trunk):
    hidden = keras.layers.Dense(7, activation="tanh", kernel_initializer=trunk.initializer)(trunk.hidden_states[-2])
    return keras.Model(trunk.inputs, keras.layers.Dense(3)(hidden))


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_saving_and_loading_is_exact(tiny_config, batch, tmp_path, model, head, suffix):
    options = {} if head else {"with_nsp": True, "with_mlm": True}
    trunk = build(tiny_config, model, **options)
    saved = untidy(with_head(trunk)) if head else trunk
    path = tmp_path / f"model{suffix}"
    if suffix == ".keras":
        saved.save(path)
        loaded = keras.models.load_model(path)
    else:
        saved.save_weights(path)
        fresh = build_model(tiny_config, **MODELS[model], **options)
        loaded = with_head(fresh) if head else fresh
        loaded.load_weights(path)
    for ours, theirs in zip(outputs_of(loaded, batch), outputs_of(saved, batch), strict=True):
        assert (ours == theirs).all()
    found = trunk_of(loaded)
    assert found.config.sharing == trunk.config.sharing
    assert dict(found.named_weights()).keys() == dict(trunk.named_weights()).keys()


def test_a_trunk_is_found_beside_and_inside_other_models(tiny_config):
    trunk = build(tiny_config)
    features = keras.Input((5,))
    beside = keras.Model(features, keras.layers.Dense(4)(features))
    joined = keras.layers.Concatenate()([beside(features), trunk(trunk.inputs)[:, 0]])
    whole = keras.Model([features, *trunk.inputs], joined)
    assert trunk_of(whole) is trunk
    assert trunk_of(keras.Sequential([whole])) is trunk


def test_the_trunk_of_a_head_model_shares_its_weights(tiny_config, batch):
    head = with_head(build(tiny_config, "albert_unshared"))
    found = trunk_of(head)
    before = outputs_of(found, batch)[0]
    untidy(head, seed=3)
    assert np.abs(outputs_of(found, batch)[0] - before).max() > 1e-3
    with pytest.raises(ConfigError, match="not built on a bert4albert trunk"):
        trunk_of(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
def test_mixed_bfloat16_stays_finite_with_rows_of_padding(tiny_config, batch, application):
    trunk = build_model(tiny_config, application=application, with_mlm=True, with_nsp=True, dtype="mixed_bfloat16")
    batch.token_ids[1] = 0
    for output in outputs_of(trunk, batch):
        assert np.isfinite(output.astype("float32")).all()
    attention_mask = np.zeros_like(batch.token_ids)
    hidden = trunk.encoder(trunk.embeddings(batch.token_ids, batch.segment_ids), attention_mask)
    assert np.isfinite(to_numpy(keras.ops.cast(hidden.last, "float32"))).all()
    assert trunk.encoder.blocks[0].intermediate.kernel.dtype == "float32"


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_acts_in_training_only(tiny_config, batch, rate):
    trunk = build_model(tiny_config, dropout_rate=rate, attention_dropout_rate=rate)
    inputs = [batch.token_ids, batch.segment_ids]
    quiet, noisy = to_numpy(trunk(inputs)), to_numpy(trunk(inputs, training=True))
    assert (np.abs(quiet - noisy).max() > 1e-3) == (rate > 0)


def test_summary_shows_the_blocks_and_their_depths(tiny_config):
    lines = []
    build(tiny_config, "own_schedule").summary(print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    assert "3 block applications share 2 blocks: 0 1 0" in text
    assert "block_0: 17,408 parameters, at depth 0, 2" in text


@pytest.mark.once
def test_lora_adapters_train_and_reload(tiny_config, batch, tmp_path):
    trunk = build(tiny_config, "albert_unshared", with_mlm="linear")
    before = outputs_of(trunk, batch)[0]
    for block in trunk.encoder.blocks:
        block.attention.query.enable_lora(2)
    assert (outputs_of(trunk, batch)[0] == before).all()
    trunk.compile("sgd", "mse")
    trunk.train_on_batch([batch.token_ids, batch.segment_ids], np.zeros((3, 13, 211)))
    trunk.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert (outputs_of(reloaded, batch)[0] == outputs_of(trunk, batch)[0]).all()


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method", "ignore:The use of `x.T`")
@pytest.mark.once
def test_int8_quantisation_stays_close(tiny_config, batch):
    trunk = build(tiny_config, with_mlm="linear")
    before = outputs_of(trunk, batch)[0]
    trunk.quantize("int8")
    difference = np.abs(outputs_of(trunk, batch)[0] - before).max()
    assert 0 < difference < 0.1 * np.abs(before).max()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a SavedModel is TensorFlow's")
def test_an_exported_model_computes_the_same(tiny_config, batch, tmp_path):
    import tensorflow as tf

    trunk = build(tiny_config)
    trunk.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    exported = loaded.serve([tf.constant(batch.token_ids), tf.constant(batch.segment_ids)])
    assert np.abs(to_numpy(exported) - outputs_of(trunk, batch)[0]).max() < 1e-6


@pytest.mark.parametrize("model", ["albert", "albert_unshared"])
def test_rematerialised_blocks_train_to_the_same_weights(tiny_config, batch, model):
    start, trained = build(tiny_config, model).get_weights(), []
    for remat in (False, True):
        trunk = build_model(tiny_config, model=model, remat=remat)
        trunk.set_weights(start)
        trunk.compile("sgd", "mse")
        trunk.train_on_batch([batch.token_ids, batch.segment_ids], np.ones((3, 13, 48)))
        trained.append(trunk.get_weights())
    assert max(np.abs(a - b).max() for a, b in zip(*trained, strict=True)) < 1e-6


@pytest.mark.parametrize(
    ("token_ids", "segment_ids", "words"),
    [
        ([[1, 211, 2]], [[0, 0, 0]], "no token id 211: this model has 211"),
        ([[1, -1, 2]], [[0, 0, 0]], "no token id -1"),
        ([[1, 5, 2]], [[0, 2, 0]], "no segment id 2"),
    ],
)
def test_ids_without_an_embedding_are_told_and_never_become_nan(tiny_config, token_ids, segment_ids, words):
    model = build_model(tiny_config)
    inputs = [np.array(ids, "int64") for ids in (token_ids, segment_ids)]
    with pytest.raises(DataError, match=words):
        model(inputs)
    if keras.backend.backend() == "jax":  # no error can be raised in a compiled step
        assert np.isfinite(model.predict_on_batch(inputs)).all()
    else:
        with pytest.raises(Exception, match=r"indices\[|no (token|segment) id"):
            model.predict_on_batch(inputs)
