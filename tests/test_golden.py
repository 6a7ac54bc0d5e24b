"""The model computes what the original programs computed, forward and backward."""

import keras
import numpy as np
import pytest
from keras import ops
from support.golden import GOOGLE_FOLDERS
from support.gradients import gradients_of, to_numpy

from bert4albert import build_model
from bert4albert.checkpoint.dialects import GOOGLE_ALBERT, GOOGLE_BERT

CASES = [
    (folder, model)
    for folder in GOOGLE_FOLDERS
    for model in (["bert"] if folder == "google_bert" else ["albert", "albert_unshared"])
]
BERT4KERAS_CASES = [("google_albert", "albert"), ("google_albert", "albert_unshared"), ("google_bert", "bert")]
TOLERANCE = 1e-5


def build(case, model, **options):
    return build_model(case.config, case.checkpoint, model, **options)


def worst(ours, theirs, mask=None):
    difference = np.abs(to_numpy(ours) - theirs)
    return (difference if mask is None else difference[mask.astype(bool)]).max()


def sentence_arrays(expected):
    order = "sop" if "sop_log_probs" in expected else "nsp"
    labels = "sentence_order_labels" if order == "sop" else "next_sentence_labels"
    return expected[f"{order}_log_probs"], expected[labels]


@pytest.mark.parametrize(("folder", "model"), CASES)
def test_every_hidden_state_and_head_equals_the_original(golden, folder, model):
    case = golden(folder)
    expected, mask = case.expected, case.expected["mask"]
    trunk = build(case, model, with_pool=True, with_nsp=True, with_mlm=True)
    pooled = trunk.get_layer("pooler").output
    everything = keras.Model(trunk.inputs, [*trunk.hidden_states, pooled, *trunk.outputs])
    *layers, pooled, sentence, mlm = everything([expected["token_ids"], expected["segment_ids"]])

    assert len(layers) == len(expected["layers"])
    for ours, theirs in zip(layers, expected["layers"], strict=True):
        assert worst(ours, theirs, mask) < TOLERANCE
    assert worst(layers[-1], expected["sequence_output"], mask) < TOLERANCE
    assert worst(pooled, expected["pooled_output"]) < TOLERANCE
    assert worst(ops.log(sentence), sentence_arrays(expected)[0]) < TOLERANCE
    at_masks = np.take_along_axis(to_numpy(mlm), expected["masked_positions"][:, :, None], axis=1)
    assert worst(np.log(at_masks), expected["mlm_log_probs"]) < TOLERANCE
    embedded = trunk.embeddings.normalised(expected["token_ids"], expected["segment_ids"])
    assert worst(embedded, expected["embedding_output"], mask) < TOLERANCE


def total_loss(expected):
    """Google's pretraining loss: MLM sum / (count + 1e-5) plus the sentence loss, on probabilities."""
    masked_ids = ops.one_hot(expected["masked_ids"], expected["mlm_log_probs"].shape[-1], dtype="float32")
    labels = ops.one_hot(sentence_arrays(expected)[1][:, 0], 2, dtype="float32")
    count = expected["masked_ids"].size

    def loss(outputs):
        sentence, mlm = outputs
        mlm_loss = -ops.sum(masked_ids * ops.log(mlm)) / (count + 1e-5)
        return mlm_loss - ops.mean(ops.sum(labels * ops.log(sentence), axis=-1))

    return loss


def loss_and_gradients(case, model):
    """The total loss and its gradients, the masked-LM head on the masked positions only."""
    expected = case.expected
    trunk = build(case, model, with_nsp=True, with_mlm=True, masked_positions=True)
    inputs = [expected["token_ids"], expected["segment_ids"], expected["masked_positions"]]
    loss = total_loss(expected)
    value = float(to_numpy(loss(trunk(inputs))))
    return value, gradients_of(trunk, inputs, loss), trunk.config


def assert_gradients_equal(ours, golden_gradients, dialect, config):
    assert len(ours) == len(golden_gradients)
    for weight, gradient in ours.items():
        stored = dialect.stored_as(weight, config.inner_group_num)
        theirs = golden_gradients[stored.name.replace("/", "|")]
        gradient = gradient.T if stored.transposed else gradient
        bound = 1e-4 * np.abs(theirs).max() + 1e-8
        assert np.abs(gradient - theirs).max() <= bound, weight


@pytest.mark.parametrize(("folder", "model"), [c for c in CASES if c[1] != "albert_unshared"])
def test_loss_and_gradients_equal_the_original(golden, folder, model):
    case = golden(folder)
    value, gradients, config = loss_and_gradients(case, model)
    assert abs(value - float(case.expected["total_loss"])) < TOLERANCE
    dialect = GOOGLE_BERT if model == "bert" else GOOGLE_ALBERT
    assert_gradients_equal(gradients, case.gradients, dialect, config)


@pytest.mark.parametrize("folder", [f for f in GOOGLE_FOLDERS if f != "google_bert"])
def test_unshared_gradients_summed_over_depth_equal_the_shared_gradient(golden, folder):
    case = golden(folder)
    _, gradients, config = loss_and_gradients(case, "albert_unshared")
    shared = build(case, "albert").config.sharing
    summed = {}
    for weight, gradient in gradients.items():
        if weight.startswith("encoder/block_"):
            block, rest = weight.removeprefix("encoder/block_").split("/", 1)
            weight = f"encoder/block_{shared[int(block)]}/{rest}"
        summed[weight] = summed.get(weight, 0) + gradient
    assert_gradients_equal(summed, case.gradients, GOOGLE_ALBERT, config)


@pytest.mark.parametrize("folder", [f for f in GOOGLE_FOLDERS if f != "google_bert"])
def test_freshly_loaded_unshared_computes_the_same_function_as_shared(golden, folder):
    case = golden(folder)
    inputs = [case.expected["token_ids"], case.expected["segment_ids"]]
    outputs = [to_numpy(build(case, model)(inputs)) for model in ("albert", "albert_unshared")]
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-6


@pytest.mark.parametrize(("folder", "model"), BERT4KERAS_CASES)
@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("encoder", {}),
        ("pool", {"with_pool": True}),
        ("mlm", {"with_mlm": True}),
        ("lm", {"application": "lm", "with_mlm": "linear"}),
        ("unilm", {"application": "unilm", "with_mlm": "linear"}),
    ],
)
def test_every_application_equals_bert4keras(golden, folder, model, what, options):
    case = golden(folder)
    inputs = [case.bert4keras["token_ids"], case.bert4keras["segment_ids"]]
    ours, theirs = to_numpy(build(case, model, **options)(inputs)), case.bert4keras[f"{model}|{what}"]
    if what == "mlm":
        ours, theirs = np.log(ours), np.log(theirs)
    mask = None if what == "pool" else case.expected["mask"]
    assert worst(ours, theirs, mask) < TOLERANCE


@pytest.mark.parametrize(("folder", "model"), BERT4KERAS_CASES)
def test_kept_and_compound_tokens_equal_bert4keras(golden, folder, model):
    case = golden(folder)
    trunk = build(
        case,
        model,
        with_mlm="linear",
        keep_tokens=[*range(5), *range(100, 160)],
        compound_tokens=[[5, 7], [9, 10, 11]],
    )
    ids = case.bert4keras[f"{model}|keep_tokens|ids"]
    ours = trunk([ids, case.bert4keras["segment_ids"]])
    assert worst(ours, case.bert4keras[f"{model}|keep_tokens|mlm"], ids > 0) < TOLERANCE


@pytest.mark.parametrize(("folder", "model"), BERT4KERAS_CASES)
def test_hierarchical_positions_equal_bert4keras(golden, folder, model):
    case = golden(folder)
    trunk = build(case, model, hierarchical_position=True)
    arrays = {key: case.bert4keras[f"{model}|hierarchical{key}"] for key in ("", "|ids", "|segments")}
    ours = trunk([arrays["|ids"], arrays["|segments"]])
    assert worst(ours, arrays[""], arrays["|ids"] > 0) < TOLERANCE
