"""`build_transformer_model` gives the numbers of bert4keras, in the shapes and under the names that scripts use."""

import json

import keras
import numpy as np
import pytest
from support.models import TINY, untidy

from bert4albert.backend import register
from bert4albert.bert4keras import layers as old_layers
from bert4albert.bert4keras.backend import search_layer, set_gelu
from bert4albert.bert4keras.models import BERT, build_transformer_model, extend_with_language_model
from bert4albert.bert4keras.optimizers import name_of
from bert4albert.bert4keras.snippets import AutoRegressiveDecoder
from bert4albert.config import ModelConfig
from bert4albert.errors import CheckpointError, ConfigError
from bert4albert.heads import EfficientGlobalPointer, GlobalPointer
from bert4albert.layers.embeddings import PositionEmbedding

FOLDERS = {"albert": "google_albert", "albert_unshared": "google_albert", "bert": "google_bert"}
HEADS = {
    "encoder": {},
    "pool": {"with_pool": True},
    "mlm": {"with_mlm": True},
    "lm": {"application": "lm", "with_mlm": "linear"},
    "unilm": {"application": "unilm", "with_mlm": "linear"},
}
SIZES = {
    "vocab_size": 61,
    "embedding_size": 16,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position": 32,
    "hidden_act": "gelu",
}


@pytest.fixture(autouse=True)
def gelu_of_the_golden_files():
    set_gelu("tanh")
    yield
    set_gelu("erf")


@pytest.fixture
def build(golden):
    """A function: model and arguments -> the model on its golden checkpoint, and bert4keras' arrays for it."""

    def build(model, **kwargs):
        files = golden(FOLDERS[model])
        arrays = {key.removeprefix(f"{model}|"): value for key, value in files.bert4keras.items()}
        return build_transformer_model(str(files.config), str(files.checkpoint), model, **kwargs), arrays

    return build


@pytest.mark.eager
@pytest.mark.parametrize("model", FOLDERS)
@pytest.mark.parametrize("head", HEADS)
def test_outputs_are_those_of_bert4keras(build, model, head):
    built, expected = build(model, **HEADS[head])
    found = built.predict([expected["token_ids"], expected["segment_ids"]])
    wanted = expected[head]
    if head == "mlm":
        found, wanted = np.log(found), np.log(wanted)
    rows = slice(None) if head == "pool" else expected["token_ids"] != 0
    np.testing.assert_allclose(found[rows], wanted[rows], atol=1e-5 if head != "mlm" else 2e-5, rtol=0)


@pytest.mark.eager
@pytest.mark.parametrize("model", FOLDERS)
def test_a_smaller_vocabulary_is_that_of_bert4keras(build, model):
    keep_tokens, compound_tokens = [*range(5), *range(100, 160)], [[5, 7], [9, 10, 11]]
    built, expected = build(model, with_mlm="linear", keep_tokens=keep_tokens, compound_tokens=compound_tokens)
    ids = expected["keep_tokens|ids"]
    found = built.predict([ids, expected["segment_ids"]])
    np.testing.assert_allclose(found[ids != 0], expected["keep_tokens|mlm"][ids != 0], atol=1e-5, rtol=0)


@pytest.mark.eager
def test_positions_are_decomposed_as_in_bert4keras(build):
    built, expected = build("albert", hierarchical_position=True)
    found = built.predict([expected["hierarchical|ids"], expected["hierarchical|segments"]])
    inside = expected["hierarchical|ids"] != 0
    np.testing.assert_allclose(found[inside], expected["hierarchical"][inside], atol=1e-5, rtol=0)


class Beams(AutoRegressiveDecoder):
    """The decoder of every title script."""

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        self.model = model

    @AutoRegressiveDecoder.wraps(default_rtype="probas")
    def predict(self, inputs, output_ids, states):
        token_ids, segment_ids = inputs
        token_ids = np.concatenate([token_ids, output_ids], 1)
        segment_ids = np.concatenate([segment_ids, np.ones_like(output_ids)], 1)
        return self.last_token(self.model).predict([token_ids, segment_ids])


@pytest.mark.parametrize("model", ["albert", "bert"])
def test_beams_are_those_of_bert4keras(build, model):
    built, expected = build(model, application="unilm")
    keys = [key for key in expected if key.startswith("beam") and "|out" in key]
    assert len(keys) > 10
    for key in keys:
        beam, *end, number = key.split("|")
        source = expected[f"{beam}|{number.replace('out', 'src')}"].tolist()
        end_id = int(end[0].removeprefix("end")) if end else 3
        decoder = Beams(built, start_id=None, end_id=end_id, maxlen=12)
        found = decoder.beam_search([source, [0] * len(source)], topk=int(beam.removeprefix("beam")))
        assert found.tolist() == expected[key].tolist(), key


@pytest.mark.eager
def test_remembered_keys_and_values_change_no_probability(build):
    built, _ = build("bert", application="unilm")
    decoder = Beams(built, start_id=None, end_id=3, maxlen=5)
    source = [5, 9, 80, 7]
    decoder.beam_search([source, [0] * 4], topk=3)
    last = decoder.last_token(built)
    assert last._decoding is not None
    rows = np.array([[*source, 11, 12], [*source, 11, 13], [*source, 14, 15]])
    segments = np.array([[0] * 4 + [1] * 2] * 3)
    last.forget()
    last.expected_rows = 3
    for length in (4, 5, 6):
        count = 1 if length == 4 else 3
        found = last.predict([rows[:count, :length], segments[:count, :length]])
        whole = built.predict([rows[:count, :length], segments[:count, :length]])[:, -1]
        np.testing.assert_allclose(found, whole, atol=1e-6)


@pytest.mark.eager
def test_layers_and_weights_are_those_that_scripts_know():
    model = build_transformer_model(**SIZES, model="albert")
    assert [layer.name for layer in model.layers if layer.weights] == [
        "Embedding-Token",
        "Embedding-Segment",
        "Embedding-Position",
        "Embedding-Norm",
        "Embedding-Mapping",
        "Transformer-MultiHeadSelfAttention",
        "Transformer-MultiHeadSelfAttention-Norm",
        "Transformer-FeedForward",
        "Transformer-FeedForward-Norm",
    ]
    assert model.layers[-1].name == "Transformer-FeedForward-Norm"
    assert model.layers[-2].name == "Transformer-FeedForward-Add"
    norm = model.get_layer("Transformer-FeedForward-Norm")
    assert [weight.name for weight in norm.weights] == ["beta", "gamma"]
    assert norm.get_output_at(2) is norm.get_output_at(-1) is model.output
    assert norm.get_output_at(0) is not model.output
    assert search_layer(model.output, "Embedding-Token").embeddings.shape == (61, 16)
    assert [tensor.dtype for tensor in model.inputs] == ["float32", "float32"]
    with pytest.raises(ConfigError, match="called 3 times"):
        norm.get_output_at(3)


@pytest.mark.eager
@pytest.mark.once
def test_optimizers_know_weights_by_their_old_names():
    model = build_transformer_model(**SIZES, with_mlm=True)
    names = {name_of(weight) for weight in model.weights}
    assert {"Embedding-Norm/beta", "Transformer-2-FeedForward/bias", "MLM-Norm/gamma", "MLM-Bias/beta"} <= names
    assert "MLM-Bias/bias" not in names  # excluding "bias" from decay never excluded it


@pytest.mark.eager
def test_a_model_is_read_back_as_it_was_saved(tmp_path, batch):
    model = untidy(build_transformer_model(**SIZES, model="albert_unshared", with_mlm=True))
    inputs = [batch.token_ids % 61, batch.segment_ids]
    before = model.predict(inputs)
    model.save(tmp_path / "test.model")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "test.model").predict(inputs), before)
    model.save_weights(str(tmp_path / "best_model.weights"))
    untidy(model, 3)
    model.load_weights(str(tmp_path / "best_model.weights"))
    np.testing.assert_array_equal(model.predict(inputs), before)


@pytest.mark.eager
def test_an_unshared_model_is_saved_with_all_its_layers(tmp_path, batch):
    bert = build_transformer_model(**SIZES, model="albert_unshared", with_pool=True, return_keras_model=False)
    untidy(bert.model)
    before = bert.model.predict([batch.token_ids % 61, batch.segment_ids])
    bert.save_weights_as_checkpoint(str(tmp_path / "model.ckpt"))
    untidy(bert.model, 4)
    bert.load_weights_from_checkpoint(str(tmp_path / "model.ckpt"))
    np.testing.assert_array_equal(bert.model.predict([batch.token_ids % 61, batch.segment_ids]), before)


@pytest.mark.eager
@pytest.mark.once
@pytest.mark.parametrize("kept", [{"keep_tokens": [0, 3, 60, 7]}, {"compound_tokens": [[5, 9], [60]]}])
def test_chosen_words_may_be_loaded_after_compiling(build, golden, batch, kept):
    at_once, _ = build("albert", **kept)
    files = golden("google_albert")
    bert = build_transformer_model(str(files.config), None, "albert", return_keras_model=False, **kept)
    bert.load_weights_from_checkpoint(str(files.checkpoint))
    inputs = [batch.token_ids % 4, batch.segment_ids]
    np.testing.assert_array_equal(bert.model.predict(inputs), at_once.predict(inputs))
    with pytest.raises(CheckpointError, match="word_embeddings, whose rows"):
        bert.load_weights_from_checkpoint({"bert/encoder/transformer/group_0/inner_group_0/x": np.ones(3)})


@pytest.mark.eager
def test_a_condition_changes_nothing_at_first(batch):
    condition = keras.Input((7,))
    settings = {"layer_norm_cond_hidden_size": 5, "layer_norm_cond_hidden_act": "swish"}
    bert = build_transformer_model(
        **SIZES, layer_norm_cond=condition, additional_input_layers=condition, return_keras_model=False, **settings
    )
    plain = build_transformer_model(**SIZES)
    untidy(plain)
    for layer in plain.layers:
        for old, new in zip(layer.weights, bert.model.get_layer(layer.name).weights, strict=False):
            new.assign(np.array(keras.ops.convert_to_numpy(old)))  # on JAX an assigned variable shares its buffer
    inputs = [batch.token_ids % 61, batch.segment_ids]
    given = np.random.default_rng(0).normal(size=(3, 7))
    before = plain.predict(inputs)
    np.testing.assert_allclose(bert.model.predict([*inputs, given]), before, rtol=1e-6, atol=1e-6)
    untidy(bert.model)
    assert np.abs(bert.model.predict([*inputs, given]) - bert.model.predict([*inputs, -given])).max() > 0.01


@pytest.mark.eager
def test_a_model_without_segments_has_one_input(batch):
    model = build_transformer_model(**SIZES, segment_vocab_size=0, application="lm")
    assert len(model.inputs) == 1
    assert model.predict(batch.token_ids % 61).shape == (3, 13, 61)


@pytest.mark.eager
def test_fewer_layers_are_the_first_ones_of_the_checkpoint(build):
    whole, expected = build("bert", return_keras_model=False)
    first, _ = build("bert", return_keras_model=False, num_hidden_layers=2, prefix="Successor-")
    inputs = [expected["token_ids"], expected["segment_ids"]]
    states = keras.Model(whole.inputs, whole.layers["Transformer-1-FeedForward-Norm"].output)
    np.testing.assert_allclose(first.model.predict(inputs), states.predict(inputs), atol=1e-6)
    assert all(layer.name.startswith("Successor-") for layer in first.model.layers)


@pytest.mark.eager
def test_a_class_of_a_script_is_built():
    class WithoutSegments(BERT):
        def apply_embeddings(self, inputs):
            return super().apply_embeddings(inputs) * 2.0

    assert build_transformer_model(**SIZES, model=WithoutSegments).output.shape == (None, None, 48)
    assert extend_with_language_model(BERT)(config=SIZES).config.application == "lm"


@pytest.mark.eager
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "nezha"}, "transformers"),
        ({"model": "t5.1.1"}, "keras-hub"),
        ({"model": "albrt"}, "Did you mean 'albert'"),
        ({"with_mlmm": True}, "Did you mean 'with_mlm'"),
        ({"application": "unlm"}, "Did you mean 'unilm'"),
    ],
)
def test_what_is_not_there_is_told(arguments, words):
    with pytest.raises(ConfigError, match=words):
        build_transformer_model(**SIZES, **arguments)


@pytest.mark.eager
@pytest.mark.once
@pytest.mark.parametrize("key", ["attention_caches", "shared_segment_embeddings", "residual_attention_scores"])
@pytest.mark.parametrize("model", ["bert", BERT])
def test_what_is_not_offered_is_refused_and_not_left_out(model, key):
    assert build_transformer_model(**SIZES, model=model, **{key: None}).output.shape == (None, None, 48)
    with pytest.raises(ConfigError, match=f"{key} is not offered"):
        build_transformer_model(**SIZES, model=model, **{key: {"a": 1}})


@pytest.mark.eager
@pytest.mark.once
@pytest.mark.parametrize("rate", [0, 0.1])
def test_dropout_of_a_script_follows_the_models(rate):
    class Dropped(BERT):
        def apply_final_layers(self, inputs):
            return self.apply(inputs, keras.layers.Dropout, name="Last", rate=0.5)

    model = build_transformer_model(**SIZES, model=Dropped, dropout_rate=rate)
    assert ("Last" in [layer.name for layer in model.layers]) == (rate > 0)


@pytest.mark.eager
def test_weights_that_a_checkpoint_lacks_are_told(golden):
    files = golden("google_bert")
    with pytest.raises(CheckpointError, match="does not fit"):
        build_transformer_model(str(files.config), str(files.checkpoint), num_hidden_layers=4)


@pytest.mark.eager
@pytest.mark.parametrize("model", ["albert", "albert_unshared"])
def test_groups_that_the_config_does_not_know_are_told(golden, tmp_path, model):
    files = golden("google_albert_groups")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(files.config.read_text()) | {"num_hidden_groups": 1}))
    with pytest.raises(CheckpointError, match="groups of 1 layers, its config 1 of 1: set num_hidden_groups to"):
        build_transformer_model(str(config), str(files.checkpoint), model=model)


@pytest.mark.eager
def test_a_compiled_model_is_still_loaded_with_its_optimizer(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    assert int(loaded.optimizer.iterations.numpy()) == 1


@pytest.mark.eager
@pytest.mark.parametrize(
    "layer",
    [GlobalPointer(3, 6), EfficientGlobalPointer(3, 6), PositionEmbedding(ModelConfig.from_dict(TINY))],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_of_the_library_are_not_taken_for_the_old_ones_of_the_same_name(layer):
    assert hasattr(old_layers, type(layer).__name__)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)


@pytest.mark.eager
def test_a_name_in_files_is_given_once():
    taken = type("GlobalPointer", (keras.layers.Layer,), {})
    with pytest.raises(TypeError, match="bert4albert>GlobalPointer is registered already"):
        register(taken)
