"""ModelConfig reads every spelling, and refuses what it cannot build."""

import json

import pytest

from bert4albert import ConfigError
from bert4albert.config import ModelConfig
from bert4albert.config_keys import canonical_activation, read_config

pytestmark = pytest.mark.once

GOOGLE = {
    "vocab_size": 211,
    "embedding_size": 16,
    "hidden_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.2,
    "max_position_embeddings": 64,
    "type_vocab_size": 3,
    "initializer_range": 0.03,
    "num_hidden_groups": 3,
    "inner_group_num": 1,
    "net_structure_type": 0,
    "gap_size": 0,
    "num_memory_blocks": 0,
    "down_scale_factor": 1,
    "layers_to_keep": [],
}


def test_google_spelling_is_read():
    config = ModelConfig.from_dict(GOOGLE)
    assert config.family == "albert"
    assert config.sharing == (0, 0, 1, 1, 2, 2)
    assert config.hidden_act == "gelu_tanh"
    assert config.embedding_mapping
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.1, 0.2)
    assert config.initializer_range == 0.03


def test_bert4keras_spelling_means_the_same():
    spelled = dict(GOOGLE)
    for theirs, ours in {
        "max_position": "max_position_embeddings",
        "segment_vocab_size": "type_vocab_size",
        "dropout_rate": "hidden_dropout_prob",
        "attention_dropout_rate": "attention_probs_dropout_prob",
    }.items():
        spelled[theirs] = spelled.pop(ours)
    assert ModelConfig.from_dict(spelled) == ModelConfig.from_dict(GOOGLE)


@pytest.mark.parametrize(
    ("name", "dialect", "meaning"),
    [
        ("gelu", "google", "gelu_tanh"),
        ("gelu", "hf", "gelu_erf"),
        ("gelu_new", "hf", "gelu_tanh"),
        ("GELU_erf", "google", "gelu_erf"),
        ("swish", "google", "silu"),
        ("relu", "hf", "relu"),
    ],
)
def test_gelu_means_what_its_dialect_means(name, dialect, meaning):
    assert canonical_activation(name, dialect, "hidden_act") == meaning


@pytest.mark.parametrize("key", ["model_type", "transformers_version"])
def test_a_hugging_face_config_is_told_by_its_keys(key):
    values = GOOGLE | {key: "albert" if key == "model_type" else "5.23.0", "layer_norm_eps": 1e-7}
    config = ModelConfig.from_dict(values)
    assert config.hidden_act == "gelu_erf"
    assert config.layer_norm_eps == 1e-7


def test_a_config_round_trips_through_json():
    config = ModelConfig.from_dict(
        GOOGLE,
        sharing=[0, 1, 1, 0, 2, 2],
        with_mlm="linear",
        keep_tokens=(0, 3, 5),
        compound_tokens=[[1, 2], ([0, 1], [0.25, 0.75])],
        hierarchical_position=0.3,
        application="unilm",
    )
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ln_type": "preln"}, ["ln_type", "preln", "postln"]),
        ({"down_scale_factor": 2}, ["down_scale_factor", "2"]),
        ({"net_structure_type": 1}, ["net_structure_type"]),
        ({"position_embedding_type": "relative_key"}, ["position_embedding_type"]),
        ({"model_type": "roberta"}, ["model_type", "roberta", "albert"]),
        ({"is_decoder": True}, ["is_decoder"]),
        ({"num_hidden_groups": 4}, ["num_hidden_groups 4", "num_hidden_layers 6"]),
        ({"hidden_act": "quick_gelu"}, ["quick_gelu", "gelu"]),
        ({"hidden_size": 50}, ["50", "num_attention_heads 4"]),
        ({"hidden_size": "48"}, ["hidden_size", "'48'"]),
        ({"vocab_size": 10**12}, ["vocab_size", "1000000000000"]),
        ({"num_hidden_layers": True}, ["num_hidden_layers", "True"]),
        ({"hidden_dropout_prob": 1.5}, ["hidden_dropout_prob", "1.5"]),
        ({"hidden_dropout_prob": float("nan")}, ["hidden_dropout_prob", "nan"]),
        ({"hiden_size": 3}, ["hiden_size", "Did you mean 'hidden_size'?"]),
        ({"max_position": 65}, ["max_position_embeddings", "64", "65"]),
        ({"application": "seq2seq"}, ["application", "unilm"]),
        ({"masked_positions": True}, ["masked_positions", "with_mlm"]),
        ({"attention_head_size": 13}, ["attention_head_size", "13"]),
        ({"keep_tokens": "all"}, ["keep_tokens", "a list of token ids", "'all'"]),
        ({"keep_tokens": [0, "\ud800"]}, ["keep_tokens", "a list of token ids"]),
        ({"compound_tokens": [3, 4]}, ["compound_tokens", "a list of lists of token ids", "[3, 4]"]),
    ],
)
def test_a_config_that_cannot_be_built_says_why(change, words):
    with pytest.raises(ConfigError) as error:
        ModelConfig.from_dict(GOOGLE | change)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads"])
def test_a_missing_size_is_named(key):
    values = {k: v for k, v in GOOGLE.items() if k != key}
    with pytest.raises(ConfigError, match=key):
        ModelConfig.from_dict(values)


def test_an_unknown_key_of_a_file_warns_and_is_ignored():
    with pytest.warns(UserWarning, match="my_own_note"):
        assert ModelConfig.from_dict(GOOGLE | {"my_own_note": 1}) == ModelConfig.from_dict(GOOGLE)


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", "null"])
def test_a_file_that_is_no_config_is_named(tmp_path, content):
    path = tmp_path / "albert_config.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"albert_config\.json"):
        read_config(path)


def test_a_missing_config_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        read_config(tmp_path / "nowhere.json")
