"""Every dialect, in every spelling its files have, gives the model that the original program ran."""

import json
import re

import keras
import numpy as np
import pytest
from keras import ops
from support.checkpoints import random_arrays
from support.gradients import to_numpy
from support.models import SMALL

from bert4albert import CheckpointError, ConfigError, ModelConfig, build_model
from bert4albert.checkpoint import open_checkpoint
from bert4albert.checkpoint.dialects import DIALECTS, EARLY_BRIGHTMART, HF_ALBERT, HF_BERT, HF_ELECTRA, detect_dialect
from bert4albert.checkpoint.names import weight_shapes

HEADS = {"with_pool": True, "with_nsp": True, "with_mlm": "linear"}
HF_FOLDERS = {
    "hf_albert": HEADS,
    "hf_albert_groups": HEADS,
    "hf_bert": HEADS,
    "hf_bert_masked_lm": {"with_mlm": "linear"},
    "hf_electra": {},
}
HF_CASES = [
    (folder, heads, model)
    for folder, heads in HF_FOLDERS.items()
    for model in ([None, "albert_unshared"] if "albert" in folder else [None])
]
EMBEDDINGS = {"hf_albert": {"embedding_size": 10}, "hf_electra": {"embedding_size": 10}, "hf_bert": {}}


def worst(ours, theirs, mask=None):
    difference = np.abs(to_numpy(ours) - theirs)
    return (difference if mask is None else difference[mask.astype(bool)]).max()


def run(trunk, expected, *outputs):
    model = keras.Model(trunk.inputs, [*trunk.hidden_states, *outputs])
    results = model([expected["token_ids"], expected["segment_ids"]])
    depth = len(trunk.hidden_states)
    return results[:depth], results[depth:]


def arrays_of(dialect, values, **heads):
    """Random arrays under a dialect's names for a config."""
    config = ModelConfig.from_dict(values, family=dialect.family, **heads)
    shapes = weight_shapes(config)
    named = dialect.names(config)
    return random_arrays({s.name: shapes[w][::-1] if s.transposed else shapes[w] for w, s in named.items()})


def hf_case(dialect):
    """A config of a kind of Hugging Face model, and random arrays for it."""
    values = SMALL | EMBEDDINGS[dialect.key] | {"model_type": dialect.family}
    heads = {} if dialect is HF_ELECTRA else {"with_pool": True, "with_nsp": True, "with_mlm": True}
    return values, arrays_of(dialect, values, **heads)


def problem(*arguments, **options):
    with pytest.raises((CheckpointError, ConfigError)) as error:
        build_model(*arguments, **options)
    return str(error.value)


@pytest.mark.parametrize(("folder", "heads", "model"), HF_CASES)
def test_a_hugging_face_folder_equals_transformers(golden, folder, heads, model):
    case = golden(folder)
    expected, mask = case.expected, case.expected["mask"]
    trunk = build_model(case.folder, model=model, **heads)
    pooled = [trunk.get_layer("pooler").output] if "with_pool" in heads else []
    layers, outputs = run(trunk, expected, *pooled, *(trunk.outputs if heads else []))

    assert len(layers) == len(expected["layers"])
    for ours, theirs in zip(layers, expected["layers"], strict=True):
        assert worst(ours, theirs, mask) < 1e-5
    if "with_pool" in heads:
        assert worst(outputs.pop(0), expected["pooled_output"]) < 1e-5
        logits = expected.get("sop_logits", expected.get("seq_relationship_logits"))
        log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        assert worst(ops.log(outputs.pop(0)), log_probabilities) < 1e-5
    if heads:
        logits = expected["prediction_logits"] if "prediction_logits" in expected else expected["logits"]
        assert worst(outputs.pop(0), logits, mask) < 1e-5


@pytest.mark.parametrize("model", [None, "albert_unshared"])
def test_early_brightmart_equals_the_original_with_its_words_projected(golden, model):
    case = golden("brightmart_albert_zh")
    expected, mask = case.expected, case.expected["mask"]
    trunk = build_model(case.folder, model=model, with_pool=True, with_nsp=True, with_mlm=True)
    assert dict(trunk.named_weights())["embeddings/projection/kernel"].shape == (16, 48)
    layers, (sentence, mlm) = run(trunk, expected, *trunk.outputs)

    for ours, theirs in zip(layers, expected["layers"], strict=True):
        assert worst(ours, theirs, mask) < 1e-5
    assert worst(ops.log(sentence), expected["nsp_log_probs"]) < 1e-5
    at_masks = np.take_along_axis(to_numpy(mlm), expected["masked_positions"][:, :, None], axis=1)
    assert worst(np.log(at_masks), expected["mlm_log_probs"]) < 1e-5


@pytest.mark.parametrize("folder", ["hf_albert", "hf_albert_groups", "hf_bert"])
def test_the_pytorch_file_holds_the_same_as_the_safetensors_file(golden, folder):
    case = golden(folder)
    pickled, plain = (open_checkpoint(case.folder / name) for name in ("pytorch_model.bin", "model.safetensors"))
    assert plain.tensors.keys() < pickled.tensors.keys()
    for name in plain.tensors:
        assert (pickled.read(name) == plain.read(name)).all()
    report = build_model(case.config, case.folder / "pytorch_model.bin").load_report
    assert sum(why.startswith("a repetition of") for why in report.exempt.values()) == 2


@pytest.mark.parametrize("dialect", [HF_ALBERT, HF_BERT, HF_ELECTRA], ids=lambda dialect: dialect.key)
@pytest.mark.parametrize("spelling", ["without prefix", "old norm names", "with position numbers"])
def test_a_file_may_be_spelled_as_older_programs_do(dialect, spelling):
    values, arrays = hf_case(dialect)
    reference = dict(build_model(values, arrays).named_weights())
    if spelling == "without prefix":
        arrays = {k.removeprefix(dialect.trunk_prefix): v for k, v in arrays.items() if dialect.trunk_prefix in k}
    elif spelling == "old norm names":
        norms = re.compile(r"(LayerNorm|layer_norm)\.(weight|bias)$")
        new = {"weight": "gamma", "bias": "beta"}
        arrays = {norms.sub(lambda m: f"{m[1]}.{new[m[2]]}", k): v for k, v in arrays.items()}
        assert any(name.endswith(".gamma") for name in arrays)
    else:
        arrays[f"{dialect.trunk_prefix}embeddings.position_ids"] = np.arange(19)[None]
    trunk = build_model(values, arrays)
    assert trunk.load_report.dialect == dialect.title
    assert trunk.config.family == dialect.family
    for name, variable in trunk.named_weights():
        assert (to_numpy(variable) == to_numpy(reference[name])).all()


def test_a_bare_electra_with_equal_sizes_is_told_from_bert_by_its_config():
    values = SMALL | {"embedding_size": 24, "model_type": "electra"}
    arrays = {k.removeprefix("electra."): v for k, v in arrays_of(HF_ELECTRA, values).items()}
    assert build_model(values, arrays).config.family == "electra"
    assert build_model(values | {"model_type": "bert"}, arrays).config.family == "bert"


def test_the_head_of_an_electra_discriminator_is_exempt_with_its_reason():
    values, arrays = hf_case(HF_ELECTRA)
    head = "discriminator_predictions.dense.weight"
    report = build_model(values, arrays | {head: np.zeros((24, 24), "float32")}).load_report
    assert report.exempt == {head: "the head that told replaced tokens"}


@pytest.mark.parametrize("mapped", [True, False])
def test_equal_sizes_load_with_and_without_a_mapping(mapped):
    values = SMALL | {"embedding_size": 24, "model_type": "albert"}
    arrays = arrays_of(HF_ALBERT, values, embedding_mapping=True)
    if not mapped:
        arrays = {k: v for k, v in arrays.items() if "mapping" not in k}
    trunk = build_model(values, arrays)
    assert trunk.config.embedding_mapping is mapped
    assert trunk.load_report.complete


@pytest.mark.parametrize(("name", "change"), [("predictions.decoder.weight", 1.0), ("predictions.decoder.bias", 1.0)])
def test_a_decoder_that_is_not_tied_is_an_error(name, change):
    values, arrays = hf_case(HF_ALBERT)
    tied = arrays["albert.embeddings.word_embeddings.weight" if name.endswith("weight") else "predictions.bias"]
    assert build_model(values, arrays | {name: tied}).load_report.complete
    message = problem(values, arrays | {name: tied + change})
    assert name in message
    assert "untied" in message


@pytest.mark.parametrize(
    ("dialect", "model", "family", "remedy"),
    [(HF_ALBERT, "bert", "ALBERT", "'albert_unshared'"), (HF_BERT, "albert", "BERT", "model='bert'")],
)
def test_the_wrong_model_is_told_what_the_file_is(dialect, model, family, remedy):
    values, arrays = hf_case(dialect)
    message = problem(values, arrays, model)
    assert f"is {family} (found {dialect.block_prefix[:10]}" in message
    assert remedy in message


def test_electra_is_asked_for_as_bert_or_not_at_all():
    values, arrays = hf_case(HF_ELECTRA)
    assert build_model(values, arrays, "bert").config.family == "electra"
    assert "is ELECTRA" in problem(values, arrays, "albert_unshared")


def test_gelu_means_what_the_programs_of_the_config_mean():
    assert build_model(SMALL | {"hidden_act": "gelu"}).config.hidden_act == "gelu_tanh"
    assert build_model(SMALL | {"hidden_act": "gelu", "model_type": "bert"}).config.hidden_act == "gelu_erf"
    assert build_model(SMALL | {"model_type": "albert"}).config.hidden_act == "gelu_tanh"


def test_grouped_dense_layers_are_refused_with_the_reason():
    name = "bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/dense/kernel"
    message = problem(SMALL | {"embedding_size": 10}, {name: np.zeros((2, 12, 20), "float32")})
    assert "_google_fast" in message
    assert name in message


@pytest.mark.parametrize(("key", "value"), [("ln_type", "preln"), ("down_scale_factor", 2)])
def test_other_architectures_are_refused_with_the_key(key, value):
    message = problem(SMALL | {key: value})
    assert key in message
    assert "wrong numbers" in message


def test_groups_are_counted_from_the_names_where_the_config_does_not_say():
    values = SMALL | {"embedding_size": 10, "model_type": "albert"}
    arrays = arrays_of(HF_ALBERT, values | {"num_hidden_groups": 2, "inner_group_num": 3})
    assert build_model(values, arrays).config.sharing == (0, 1, 2, 3, 4, 5)


def test_weights_that_are_not_floats_are_named():
    values, arrays = hf_case(HF_BERT)
    name = "bert.encoder.layer.1.output.dense.bias"
    message = problem(values, arrays | {name: np.zeros(24, "int32")})
    assert f"{name} holds int32" in message


@pytest.mark.parametrize("name", ["brightmart_albert_tiny_zh_early", "brightmart_albert_large_zh_early"])
def test_real_early_checkpoints_load_with_nothing_missing_or_unexpected(shared, name):
    folder = shared / "golden" / "real_indexes"
    arrays = random_arrays(json.loads((folder / f"{name}.json").read_text()))
    trunk = build_model(folder / f"{name}.config.json", arrays)
    assert trunk.load_report.dialect == EARLY_BRIGHTMART.title
    assert trunk.load_report.tensors.keys() == arrays.keys()
    assert trunk.config.projected_words


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.key)
def test_names_give_their_dialect_away_and_are_all_different(dialect):
    family = dialect.family or "albert"
    values = SMALL | {"family": family, "projected_words": dialect.projects_words}
    values |= {"num_hidden_groups": 2 if dialect.numbers_layers or "group" in dialect.block_prefix else 1}
    config = ModelConfig.from_dict(values, with_pool=True, with_nsp=True, with_mlm=True)
    names = [stored.name for stored in dialect.names(config).values()]
    assert len(set(names)) == len(names)
    assert detect_dialect(names, "a test").key == dialect.key


def test_names_of_no_dialect_are_shown():
    message = problem(SMALL, {"roberta.encoder.layer.0.output.dense.weight": np.zeros((3, 3))})
    assert "roberta.encoder.layer.0" in message
    assert "Hugging Face Bert" in message
