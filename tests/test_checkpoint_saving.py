"""What was loaded and trained goes back, exactly, into every format that can say it."""

import json

import keras
import numpy as np
import pytest
from support.checkpoints import random_arrays
from support.gradients import to_numpy
from support.models import ALL_HEADS, SMALL, untidy

from bert4albert import CheckpointError, Tokenizer, build_model, save_google_checkpoint, save_hf
from bert4albert.checkpoint.export import Weights, write_npz

pytestmark = pytest.mark.once

SIZES = SMALL | {"num_hidden_layers": 4}
ALBERT = SIZES | {"embedding_size": 10}
EQUAL = SIZES | {"num_hidden_groups": 1}
MODELS = {
    "albert": (ALBERT, {}),
    "albert_unshared": (ALBERT, {"model": "albert_unshared"}),
    "groups": (ALBERT | {"num_hidden_groups": 2}, {}),
    "inner": (ALBERT | {"num_hidden_groups": 2, "inner_group_num": 3}, {}),
    "inner_unshared": (ALBERT | {"inner_group_num": 2}, {"model": "albert_unshared"}),
    "bert": (SIZES, {}),
    "early": (ALBERT | {"projected_words": True}, {}),
    "early_unshared": (ALBERT | {"projected_words": True}, {"model": "albert_unshared"}),
}
# What each format says as it is; the others change it, and are tested below.
EXACT = [(name, to) for name in MODELS for to in ("hf", "google", "npz") if not (to == "hf" and "early" in name)]


def make(name, **options):
    values, arguments = MODELS[name]
    return untidy(build_model(values, **arguments, **options))


def save(model, folder, to):
    if to == "hf":
        save_hf(model, folder)
    elif to == "google":
        save_google_checkpoint(model, folder / "some_model.ckpt")
    else:
        variables = dict(model.named_weights())
        write_npz(Weights(model.config, lambda weight: to_numpy(variables[weight])), folder / "model.npz")


def values_of(model):
    return {name: to_numpy(variable) for name, variable in model.named_weights()}


def assert_same_weights(ours, theirs):
    ours, theirs = values_of(ours), values_of(theirs)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert (ours[name] == theirs[name]).all(), name


def outputs_of(model, batch):
    outputs = model([batch.token_ids, batch.segment_ids])
    return [to_numpy(output) for output in (outputs if isinstance(outputs, list) else [outputs])]


def assert_same_function(ours, theirs, batch, tolerance):
    for a, b in zip(outputs_of(ours, batch), outputs_of(theirs, batch), strict=True):
        assert np.abs(np.log(a) - np.log(b) if a.min() > 0 else a - b).max() <= tolerance


@pytest.fixture
def small_batch(batch):
    batch.token_ids %= SIZES["vocab_size"]
    return batch


@pytest.mark.parametrize(("name", "to"), EXACT)
def test_saving_and_loading_is_exact(tmp_path, name, to):
    model = make(name, **ALL_HEADS)
    save(model, tmp_path, to)
    again = build_model(tmp_path, **ALL_HEADS)
    assert_same_weights(again, model)
    ours, theirs = again.config, model.config
    for key in ("sharing", "family", "hidden_act", "layer_norm_eps", "projected_words", "num_attention_heads"):
        assert getattr(ours, key) == getattr(theirs, key), key


@pytest.mark.parametrize("to", ["hf", "google"])
def test_a_model_trained_under_a_head_is_saved_with_its_blocks_apart(tmp_path, small_batch, to):
    trunk = make("albert_unshared")
    head = keras.layers.Dense(3, activation="softmax")(trunk.output[:, 0])
    model = keras.Model(trunk.inputs, head)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit([small_batch.token_ids, small_batch.segment_ids], np.array([0, 2, 1]), verbose=0)
    kernels = [to_numpy(block.intermediate.kernel) for block in trunk.encoder.blocks]
    assert len({kernel.tobytes() for kernel in kernels}) == 4

    model.save(tmp_path / "head.keras")
    save(keras.models.load_model(tmp_path / "head.keras"), tmp_path / "out", to)
    assert_same_weights(build_model(tmp_path / "out"), trunk)


@pytest.mark.parametrize("to", ["hf", "google"])
@pytest.mark.parametrize("sharing", [[0, 1, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0]])
def test_a_schedule_that_groups_cannot_say_is_expanded_exactly(tmp_path, small_batch, sharing, to):
    model = untidy(build_model(ALBERT, sharing=sharing))
    save(model, tmp_path, to)
    again = build_model(tmp_path)
    assert again.config.sharing == (0, 1, 2, 3)
    assert_same_function(again, model, small_batch, 0)


@pytest.mark.parametrize("name", ["early", "early_unshared"])
@pytest.mark.parametrize("to", ["hf", "google_albert"])
def test_projected_words_are_folded_for_other_dialects(tmp_path, small_batch, name, to):
    model = make(name, **ALL_HEADS)
    if to == "hf":
        save_hf(model, tmp_path)
    else:
        save_google_checkpoint(model, tmp_path / "model.ckpt", dialect=to)
    again = build_model(tmp_path, **ALL_HEADS)
    assert again.config.embedding_size == SIZES["hidden_size"]
    assert not again.config.projected_words
    assert again.config.sharing == model.config.sharing
    assert_same_function(again, model, small_batch, 1e-5)


@pytest.mark.parametrize("embedding_size", [10, 24])
def test_electra_becomes_an_unshared_albert_and_stays_an_electra_on_request(tmp_path, small_batch, embedding_size):
    values = SIZES | {"embedding_size": embedding_size, "model_type": "electra"}
    model = untidy(build_model(values))
    save_hf(model, tmp_path / "albert")
    albert = build_model(tmp_path / "albert")
    assert albert.config.family == "albert"
    assert albert.config.sharing == (0, 1, 2, 3)
    assert albert.config.hidden_act == "gelu_erf"
    assert_same_function(albert, model, small_batch, 0)

    save_hf(model, tmp_path / "electra", dialect="hf_electra")
    electra = build_model(tmp_path / "electra")
    assert electra.config.family == "electra"
    assert_same_weights(electra, model)


def test_equal_sizes_get_an_identity_mapping_in_hugging_face_and_lose_it_in_google(tmp_path, small_batch):
    model = untidy(build_model(EQUAL))
    assert not model.config.embedding_mapping
    save_hf(model, tmp_path / "hf")
    mapped = build_model(tmp_path / "hf")
    assert mapped.config.embedding_mapping
    assert_same_function(mapped, model, small_batch, 0)
    save_google_checkpoint(mapped, tmp_path / "google" / "model.ckpt")
    assert_same_weights(build_model(tmp_path / "google"), model)

    with pytest.raises(CheckpointError, match=r"no embedding mapping where .* save_hf"):
        save_google_checkpoint(untidy(mapped), tmp_path / "other" / "model.ckpt")


@pytest.mark.parametrize(("key", "value"), [("hidden_act", "gelu_erf"), ("layer_norm_eps", 1e-5)])
def test_what_google_would_compute_differently_is_refused(tmp_path, key, value):
    model = build_model(ALBERT | {key: value})
    with pytest.raises(CheckpointError) as error:
        save_google_checkpoint(model, tmp_path / "model.ckpt")
    assert key in str(error.value)
    assert "save_hf" in str(error.value)
    assert not list(tmp_path.iterdir())
    save_hf(model, tmp_path)
    assert getattr(build_model(tmp_path).config, key) == value


@pytest.mark.parametrize("act", ["gelu_tanh", "relu", "tanh", "linear"])
def test_google_configs_name_activations_as_google_reads_them(tmp_path, act):
    save_google_checkpoint(build_model(ALBERT | {"hidden_act": act}), tmp_path / "model.ckpt")
    written = json.loads((tmp_path / "albert_config.json").read_text())
    assert written["hidden_act"] == act.removesuffix("_tanh")
    assert written["num_hidden_groups"] == 1


@pytest.mark.parametrize("to", ["hf", "google", "npz"])
def test_a_reduced_vocabulary_is_remembered(tmp_path, to):
    model = untidy(build_model(ALBERT, keep_tokens=[0, 5, 3, 9], compound_tokens=[[1, 2]], **ALL_HEADS))
    save(model, tmp_path, to)
    again = build_model(tmp_path, **ALL_HEADS)
    assert again.config.vocab_size == 5
    assert again.config.keep_tokens == (0, 5, 3, 9)
    assert_same_weights(again, model)


def test_the_names_and_shapes_of_google_checkpoints_are_googles(shared, tmp_path):
    import tensorflow as tf

    real = shared / "golden" / "real_indexes"
    config = real / "brightmart_albert_tiny_zh_early.config.json"
    early = json.loads((real / "brightmart_albert_tiny_zh_early.json").read_text())
    save_google_checkpoint(build_model(config, random_arrays(early), **ALL_HEADS), tmp_path / "early.ckpt")
    assert tf.train.load_checkpoint(str(tmp_path / "early.ckpt")).get_variable_to_shape_map() == early
    for name in ("albert_tiny_zh_without_factorised_embedding", "brightmart_albert_tiny_zh_google"):
        shapes = json.loads((real / f"{name}.json").read_text())
        prefix = tmp_path / name / "model.ckpt"
        save_google_checkpoint(build_model(real / f"{name}.config.json", **ALL_HEADS), prefix)
        weights = {k: s for k, s in shapes.items() if not k.endswith(("_m", "_v")) and k != "global_step"}
        assert tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map() == weights


def test_the_tokenizer_travels(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "好", "##好", "hello"]
    model = build_model(ALBERT)
    save_hf(model, tmp_path, Tokenizer(tokens, do_lower_case=False))
    again = Tokenizer(tmp_path)
    assert again.encode("好 hello")[0] == [2, 5, 7, 3]
    assert not again.do_lower_case
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    with pytest.raises(CheckpointError, match="60 tokens and the model only 53"):
        save_hf(model, tmp_path / "other", Tokenizer([*tokens, *map(str, range(52))]))


@pytest.mark.parametrize("to", ["hf", "google", "npz"])
def test_a_save_that_fails_leaves_the_old_files(tmp_path, monkeypatch, to):
    model = make("albert")
    save(model, tmp_path, to)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    untidy(model)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "ascontiguousarray", fail)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save(model, tmp_path, to)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_config_that_another_checkpoint_needs_is_not_replaced(tmp_path):
    save_google_checkpoint(make("albert"), tmp_path / "shared.ckpt")
    with pytest.raises(CheckpointError, match=r"belongs to shared\.ckpt\.index"):
        save_google_checkpoint(make("albert_unshared"), tmp_path / "unshared.ckpt")
    save_google_checkpoint(make("albert_unshared"), tmp_path / "shared.ckpt")
    save_google_checkpoint(make("albert_unshared"), tmp_path / "second.ckpt")


@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 4), ("float64", 8)])
def test_half_precision_is_saved_in_single_and_double_in_double(tmp_path, dtype, width):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no double precision unless a global switch is set")
    model = build_model(ALBERT, dtype=dtype)
    save_hf(model, tmp_path)
    again = values_of(build_model(tmp_path, dtype="float32" if dtype == "bfloat16" else dtype))
    for name, value in values_of(model).items():
        assert (again[name] == value.astype(again[name].dtype)).all()
    assert (tmp_path / "model.safetensors").stat().st_size // model.count_params() == width


def test_what_a_dialect_has_no_name_for_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"Electra has no name for pooler/dense/kernel"):
        save_hf(make("albert_unshared", with_pool=True), tmp_path, dialect="hf_electra")
    with pytest.raises(CheckpointError, match="words that are not projected"):
        save_google_checkpoint(build_model(EQUAL), tmp_path / "a.ckpt", dialect="early_brightmart")
    with pytest.raises(CheckpointError, match="Did you mean 'hf_albert'"):
        save_hf(make("albert"), tmp_path, dialect="hf_alberta")


def test_adapters_are_not_dropped_silently(tmp_path):
    model = make("albert")
    model.encoder.blocks[0].intermediate.enable_lora(2)
    with pytest.raises(CheckpointError, match="lora_kernel_a"):
        save_hf(model, tmp_path)
