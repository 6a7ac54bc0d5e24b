"""Google's checkpoints load whole or not at all, and the report says where every number went."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support.checkpoints import random_arrays, write_bundle
from support.gradients import to_numpy
from support.models import ALL_HEADS, SMALL

from bert4albert import CheckpointError, ConfigError, build_model
from bert4albert.checkpoint.dialects import GOOGLE_ALBERT, GOOGLE_BERT
from bert4albert.checkpoint.formats.tf_bundle import TFBundle
from bert4albert.checkpoint.names import weight_shapes
from bert4albert.config import ModelConfig
from bert4albert.finding import PRETRAINED, find_config

ALBERT = SMALL | {"embedding_size": 10, "num_hidden_groups": 1}
QUERY = "bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"


def google_shapes(values):
    """Names and shapes of the checkpoint that Google's program writes for a config."""
    config = ModelConfig.from_dict(values, **ALL_HEADS)
    dialect = GOOGLE_ALBERT if config.family == "albert" else GOOGLE_BERT
    shapes = weight_shapes(config)
    return {
        stored.name: shapes[weight][::-1] if stored.transposed else shapes[weight]
        for weight, stored in dialect.names(config).items()
    }


@pytest.fixture
def write(tmp_path):
    """A function: config values, then changes of the arrays (None deletes one) -> checkpoint prefix."""

    def make(values, **changes):
        arrays = random_arrays(google_shapes(values)) | changes
        return write_bundle(tmp_path / "model.ckpt", {k: v for k, v in arrays.items() if v is not None})

    return make


def problem(*arguments, **options):
    with pytest.raises((CheckpointError, ConfigError)) as error:
        build_model(*arguments, **options)
    return str(error.value)


def test_our_reader_agrees_with_tensorflow(golden):
    import tensorflow as tf

    checkpoint = golden("google_albert_groups").checkpoint
    theirs, ours = tf.train.load_checkpoint(str(checkpoint)), TFBundle(checkpoint)
    assert {n: list(t.shape) for n, t in ours.tensors.items()} == theirs.get_variable_to_shape_map()
    for name in ours.tensors:
        assert (ours.read(name) == theirs.get_tensor(name)).all()


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_a_checkpoint_may_be_named_by_any_of_its_files(write, suffix):
    prefix = write(ALBERT)
    assert build_model(ALBERT, f"{prefix}{suffix}").load_report.complete


def test_the_report_accounts_for_every_weight_and_every_tensor(write):
    slots = {f"{QUERY}/{slot}": np.zeros((24, 24), "float32") for slot in ("adam_m", "adam_v", "lamb_m", "lamb_v")}
    prefix = write(ALBERT, global_step=np.int64(3), **slots)
    trunk = build_model(ALBERT, prefix, "albert_unshared", with_pool=True)
    report = trunk.load_report
    assert report.filled.keys() == dict(trunk.named_weights()).keys()
    assert report.filled["encoder/block_0/attention/query/kernel"] == QUERY
    assert report.filled["encoder/block_1/attention/query/kernel"] == QUERY
    assert report.tensors.keys() == TFBundle(prefix).tensors.keys()
    assert report.tensors[f"{QUERY}/lamb_v"] == "exempt: optimizer state"
    assert report.tensors["global_step"] == "exempt: training progress"
    assert "masked-LM head" in report.tensors["cls/predictions/output_bias"]
    table = str(report)
    assert "Google ALBERT" in table
    assert "optimizer state" in table
    assert len(table.splitlines()) < 10


def test_every_value_is_the_files(write):
    prefix = write(ALBERT)
    trunk, file = build_model(ALBERT, prefix, "albert_unshared", **ALL_HEADS), TFBundle(prefix)
    for name, weight in trunk.named_weights():
        tensor = trunk.load_report.filled[name]
        array = file.read(tensor)
        array = array.T if tensor == "cls/seq_relationship/output_weights" else array
        assert (to_numpy(weight.value) == array).all(), name


@pytest.mark.parametrize(
    ("values", "model", "sharing"),
    [
        (ALBERT, None, (0, 0)),
        (ALBERT, "albert_unshared", (0, 1)),
        (SMALL, None, (0, 1)),
        (
            ALBERT | {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
            None,
            (0, 1, 0, 1, 2, 3, 2, 3),
        ),
    ],
)
def test_the_names_decide_the_family_where_model_is_left_out(write, values, model, sharing):
    assert build_model(values, write(values), model).config.sharing == sharing


def test_a_list_shares_as_one_likes(write):
    values = ALBERT | {"num_hidden_layers": 3}
    trunk = build_model(values, write(values), sharing=[0, 1, 0])
    assert len(trunk.encoder.blocks) == 2
    grouped = ALBERT | {"num_hidden_groups": 2}
    assert "sharing" in problem(grouped, write(grouped), sharing=[0, 0])


def test_albert_as_bert_says_what_the_file_is_and_what_to_pass(write):
    message = problem(ALBERT, write(ALBERT), "bert")
    assert "is ALBERT (found bert/encoder/transformer/group_0/" in message
    assert "You asked for model='bert'" in message
    assert "'albert' or 'albert_unshared'" in message


def test_bert_as_albert_says_what_the_file_is_and_what_to_pass(write):
    message = problem(SMALL, write(SMALL), "albert_unshared")
    assert "is BERT (found bert/encoder/layer_0/" in message
    assert "Use model='bert'" in message


def test_a_missing_tensor_is_named(write):
    message = problem(ALBERT, write(ALBERT, **{QUERY: None}))
    assert f"missing {QUERY}" in message
    assert "strict=False" in message


def test_an_unexpected_tensor_is_named(write):
    message = problem(ALBERT, write(ALBERT, **{"bert/encoder/extra": np.zeros(3, "float32")}))
    assert "unexpected bert/encoder/extra" in message


def test_a_mis_shaped_tensor_is_named_with_both_shapes(write):
    message = problem(ALBERT | {"vocab_size": 54}, write(ALBERT))
    assert "shape" in message
    assert "bert/embeddings/word_embeddings" in message
    assert "(53, 10)" in message
    assert "(54, 10)" in message
    assert "config that belongs to this checkpoint" in message


def test_one_error_lists_everything_that_does_not_fit(write):
    changes = {QUERY: None, "bert/pooler/dense/bias": np.zeros(5, "float32"), "stray": np.zeros(2, "float32")}
    message = problem(ALBERT, write(ALBERT, **changes), with_pool=True)
    assert f"missing {QUERY}" in message
    assert "bert/pooler/dense/bias has shape (5,) in the file and needs shape (24,)" in message
    assert "unexpected stray" in message


def test_more_groups_in_the_file_than_in_the_config_is_an_error(write):
    prefix = write(ALBERT | {"num_hidden_groups": 2})
    assert "group_1" in problem(ALBERT, prefix)


def test_weights_keep_nothing_of_the_arrays_they_came_from(tiny_config):
    shapes = weight_shapes(ModelConfig.from_dict(tiny_config))
    arrays = {name: aligned(np.ones(shape, "float32")) for name, shape in shapes.items()}
    trunk = build_model(tiny_config, arrays, model="albert_unshared")
    for array in arrays.values():
        array[...] = 7.0
    assert all((to_numpy(weight) == 1.0).all() for weight in trunk.weights)
    trunk.compile("sgd", "mse")
    trunk.fit([np.ones((2, 5), "int32")] * 2, np.zeros((2, 5, 48), "float32"), verbose=0)
    assert all((array == 7.0).all() for array in arrays.values())


def aligned(array):
    """A copy that begins where backends like it, so that some would use it as it is."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    place = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    place[...] = array
    return place


def test_not_strict_loads_what_fits_and_reports_the_rest(write):
    prefix = write(ALBERT, **{QUERY: None, "stray": np.zeros(2, "float32")})
    report = build_model(ALBERT, prefix, strict=False).load_report
    assert report.missing == {"encoder/block_0/attention/query/kernel": QUERY}
    assert report.unexpected == ["stray"]
    assert not report.complete
    assert "encoder/block_0/attention/key/kernel" in report.filled


@pytest.mark.parametrize(("head", "tensor"), [("with_pool", "bert/pooler/dense"), ("with_mlm", "cls/predictions")])
def test_a_head_the_file_lacks_is_an_error_unless_a_fresh_one_is_allowed(write, head, tensor):
    prefix = write(ALBERT, **{n: None for n in google_shapes(ALBERT) if n.startswith(tensor)})
    message = problem(ALBERT, prefix, **{head: True})
    assert tensor in message
    assert "fresh_heads=True" in message
    report = build_model(ALBERT, prefix, fresh_heads=True, **{head: True}).load_report
    assert report.complete
    assert report.fresh


def test_fresh_heads_do_not_excuse_a_missing_trunk(write):
    assert QUERY in problem(ALBERT, write(ALBERT, **{QUERY: None}), with_pool=True, fresh_heads=True)


@pytest.mark.parametrize("cut", ["index", "data"])
def test_a_file_cut_short_is_named(write, cut):
    prefix = write(ALBERT)
    path = next(prefix.parent.glob(f"*.{cut}*"))
    path.write_bytes(path.read_bytes()[:-20])
    assert path.name in problem(ALBERT, prefix, **ALL_HEADS)


def test_a_flipped_bit_fails_the_checksum_of_its_tensor(write):
    prefix = write(ALBERT)
    path = next(prefix.parent.glob("*.data-*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    message = problem(ALBERT, prefix, **ALL_HEADS)
    assert "checksum" in message
    assert "bert/" in message or "cls/" in message


def test_values_that_are_not_numbers_are_refused(write):
    broken = np.full((24, 24), np.nan, "float32")
    message = problem(ALBERT, write(ALBERT, **{QUERY: broken}))
    assert QUERY in message
    assert "NaN" in message


def test_a_tf2_object_checkpoint_is_recognised(tmp_path):
    prefix = write_bundle(tmp_path / "ckpt-1", {"_CHECKPOINTABLE_OBJECT_GRAPH": b"graph", "a": np.zeros(2, "float32")})
    message = problem(ALBERT, prefix)
    assert "TF2 object checkpoint" in message
    assert "safetensors" in message


def test_a_missing_checkpoint_is_named(tmp_path):
    assert "nowhere" in problem(ALBERT, tmp_path / "nowhere.ckpt")


def test_a_checkpoint_of_another_kind_of_model_is_refused(tmp_path):
    prefix = write_bundle(tmp_path / "other", {"resnet/conv": np.zeros(2, "float32")})
    assert "resnet/conv" in problem(ALBERT, prefix)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"with_poool": True}, ["with_poool", "Did you mean 'with_pool'?"]),
        ({"num_hiden_layers": 3}, ["num_hiden_layers", "Did you mean 'num_hidden_layers'?"]),
        ({"entirely_unknown_thing": 3}, ["entirely_unknown_thing"]),
        ({"model": "albert_unshare"}, ["albert_unshare", "Did you mean 'albert_unshared'?"]),
        ({"keep_tokens": [0, 53]}, ["keep_tokens", "52"]),
        ({"compound_tokens": [[1, 99]]}, ["compound_tokens", "52"]),
        ({"compound_tokens": [[[1, 2], [1.0]]]}, ["compound_tokens", "weight"]),
        ({"with_mlm": "softmin"}, ["with_mlm", "softmin"]),
        ({"model": "albert_unshared", "sharing": [0, 0]}, ["albert_unshared", "sharing"]),
    ],
)
def test_a_wrong_argument_says_what_to_write(options, words):
    message = problem(ALBERT, **options)
    assert all(word in message for word in words)


def test_a_reduced_vocabulary_is_remembered_and_not_reduced_twice(write):
    keep = [0, 5, 9, 11]
    trunk = build_model(ALBERT, write(ALBERT), keep_tokens=keep, compound_tokens=[[1, 2]])
    saved = json.loads(json.dumps(trunk.config.to_dict()))
    assert saved["vocab_size"] == 5
    again = build_model(saved, keep_tokens=keep, compound_tokens=[[1, 2]])
    assert again.config == trunk.config
    assert "keep_tokens" in problem(saved, keep_tokens=[0, 1])


def test_config_keys_can_be_replaced_in_the_call(write):
    trunk = build_model(ALBERT | {"num_hidden_layers": 1}, write(ALBERT), num_hidden_layers=4)
    assert trunk.config.sharing == (0, 0, 0, 0)


REAL = {
    "albert_tiny_zh_without_factorised_embedding": {},
    "brightmart_albert_small_zh_google_finetuned": {
        "vocab_size": 21128,
        "embedding_size": 128,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "brightmart_albert_tiny_zh_google": {"num_hidden_layers": 4},
    "google_albert_base_v1": {},
    "google_albert_base_v2_probably": {},
    "google_albert_base_zh": {},
    "google_albert_large_v1": {},
    "google_bert_base_chinese": {
        "vocab_size": 21128,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
}


@pytest.mark.once
@pytest.mark.parametrize("name", REAL)
def test_real_checkpoints_load_with_nothing_missing_or_unexpected(shared, tmp_path, name):
    folder = shared / "golden" / "real_indexes"
    shapes = json.loads((folder / f"{name}.json").read_text())
    config_file = folder / f"{name}.config.json"
    values = json.loads(config_file.read_text()) if config_file.exists() else {}
    prefix = write_bundle(tmp_path / "real.ckpt", random_arrays(shapes))
    trunk = build_model(values | REAL[name], prefix)
    assert trunk.load_report.complete
    assert trunk.load_report.filled.keys() == dict(trunk.named_weights()).keys()
    assert trunk.load_report.tensors.keys() == shapes.keys()


def test_importing_the_package_loads_no_backend():
    code = (
        "import sys, bert4albert; from bert4albert import ModelConfig, CheckpointError; "
        "print([m for m in ('tensorflow', 'jax', 'torch', 'keras') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_model_of_the_package_is_a_checkpoint_by_its_name():
    trunk = build_model(find_config(PRETRAINED / "albert_tiny_zh"), "albert_tiny_zh", num_hidden_layers=1)
    whole = build_model("albert_tiny_zh", num_hidden_layers=1)
    for (name, weight), (_, other) in zip(trunk.named_weights(), whole.named_weights(), strict=True):
        np.testing.assert_array_equal(weight, other, err_msg=name)
    assert trunk.card.name == "albert_tiny_zh"
