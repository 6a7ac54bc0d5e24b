"""Tasks to export, and whether a program computes what a model does."""

import numpy as np

from bert4albert import Tokenizer, build_model
from bert4albert.tasks import Tagger, TextClassifier
from support.gradients import to_numpy
from support.models import TINY, untidy

SHAPES = ((1, 5), (3, 17), (2, 64), (4, 8))
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气真好不坏，。", *"abcdefgh"]
TEXTS = ["今天天气真好", "不坏，真好。今天气" * 4, "a b c", "", "坏"]


def classifier(pooling="cls", **settings):
    trunk = build_model(TINY, with_pool=pooling == "pooler")
    settings = {"labels": ["坏", "好", "不"], "maxlen": 24, **settings}
    task = TextClassifier(trunk, Tokenizer(TOKENS), pooling=pooling, **settings)
    untidy(task.model)
    return task


def tagger(method="crf", **settings):
    task = Tagger(build_model(TINY), Tokenizer(TOKENS), ["x", "y"], method=method, head_size=10, maxlen=12, **settings)
    untidy(task.model)
    return task


def inputs_of(batch, length):
    draw = np.random.default_rng(batch)
    token_ids = draw.integers(1, len(TOKENS), (batch, length)).astype("int32")
    token_ids[-1, -length // 3 :] = 0
    return token_ids, np.sort(draw.integers(0, 2, (batch, length)), axis=1).astype("int32")


def assert_runs_as_the_model(model, program):
    for shape in SHAPES:
        inputs = inputs_of(*shape)
        expected = to_numpy(model([*inputs]))
        found = program(*inputs)[0]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


MODELS = {
    **{f"pooling {pooling}": lambda pooling=pooling: classifier(pooling) for pooling in ("cls", "mean", "pooler")},
    "several labels": lambda: classifier(multi_label=True, threshold=0.4),
    "a number": lambda: classifier(regression=True, labels=None),
    "exits": lambda: classifier(exits=True),
    **{
        f"spans by {method}": lambda method=method: tagger(method)
        for method in ("softmax", "crf", "global_pointer", "efficient_global_pointer")
    },
}
