"""prefix= and ignore= of build_model: a checkpoint with a prefix of its own, or with tensors of other heads."""

import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import TINY, untidy

from bert4albert import build_model, save_hf
from bert4albert.checkpoint.resolve import open_checkpoint
from bert4albert.errors import CheckpointError, ConfigError

pytestmark = pytest.mark.once

OTHERS = {"crf.transitions": np.zeros((3, 3), "float32"), "classifier.bias": np.ones(3, "float32")}


@pytest.fixture(scope="module")
def model():
    return untidy(build_model(TINY))


@pytest.fixture(scope="module")
def tensors(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    save_hf(model, folder)
    file = open_checkpoint(folder)
    return {name: file.read(name) for name in file.tensors}


def same(first, second):
    weights = dict(second.named_weights())
    return all((to_numpy(weight) == to_numpy(weights[name])).all() for name, weight in first.named_weights())


def test_the_strict_error_proposes_what_then_works(model, tensors):
    with pytest.raises(CheckpointError) as caught:
        build_model(TINY, tensors | OTHERS)
    assert str(caught.value).endswith("build_model(..., ignore=('crf.*', 'classifier.*')).")
    loaded = build_model(TINY, tensors | OTHERS, ignore=("crf.*", "classifier.*"))
    assert same(model, loaded)
    assert loaded.load_report.complete


def test_a_prefix_is_proposed_and_taken_off(model, tensors):
    named = {f"model.encoder.{name}": tensor for name, tensor in tensors.items()} | OTHERS
    with pytest.raises(CheckpointError) as caught:
        build_model(TINY, named)
    proposal = "build_model(..., prefix='model.encoder.', ignore=('crf.*', 'classifier.*'))."
    assert str(caught.value).endswith(proposal)
    assert same(model, build_model(TINY, named, prefix="model.encoder.", ignore=("crf.*", "classifier.*")))


def test_the_trunks_own_prefix_may_be_taken_off(model, tensors):
    assert same(model, build_model(TINY, tensors | OTHERS, prefix="albert.", ignore=("crf.*", "classifier.*")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ignore": ("crf.*",)}, r"no tensor that ignore='crf\.\*' matches"),
        ({"ignore": ("*.word_embeddings.*",)}, "takes albert.embeddings.word_embeddings.weight, which the model needs"),
        ({"prefix": "bert."}, "no tensor that begins with prefix='bert.'"),
    ],
)
def test_wishes_that_do_not_fit_are_errors(tensors, options, words):
    with pytest.raises(CheckpointError, match=words):
        build_model(TINY, tensors, **options)


def test_two_tensors_of_one_name_are_an_error(tensors):
    named = tensors | {"old.albert.embeddings.LayerNorm.weight": np.zeros(16, "float32")}
    with pytest.raises(CheckpointError, match="have one name"):
        build_model(TINY, named, prefix="old.")


def test_a_pattern_alone_is_told_to_be_a_list(tensors):
    with pytest.raises(ConfigError, match="ignore a list"):
        build_model(TINY, tensors, ignore="crf.*")
