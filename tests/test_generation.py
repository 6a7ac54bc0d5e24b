"""Generation: the beam searches of bert4keras, the cache against full recomputation, draws, limits, errors."""

from itertools import pairwise

import keras
import numpy as np
import pytest
from support.models import TINY

from bert4albert.build import build_model
from bert4albert.errors import ConfigError, DataError
from bert4albert.generation import generate, stream
from bert4albert.generation.cache import CachedDecoding, Decoder
from bert4albert.generation.search import Options, _draw

GOLDEN = [("google_albert", "albert"), ("google_albert", "albert_unshared"), ("google_bert", "bert")]
END_IDS = {"google_albert": [98, 161], "google_bert": [37, 102, 143]}


SEARCHES = [pytest.param(*case, True, id=f"{case[1]}-cached") for case in GOLDEN]
# Without the cache TensorFlow compiles anew for every length: one of them in every suite.
SEARCHES += [
    pytest.param(*case, False, id=f"{case[1]}-uncached", marks=[pytest.mark.slow] * (case[1] != "albert_unshared"))
    for case in GOLDEN
]


@pytest.mark.parametrize(("folder", "name", "use_cache"), SEARCHES)
def test_searches_find_the_tokens_of_bert4keras(golden, folder, name, use_cache):
    files = golden(folder)
    expected = files.bert4keras
    model = build_model(files.config, files.checkpoint, name, application="unilm")
    for beams in (1, 3):
        sources = [expected[f"{name}|beam{beams}|src{i}"].tolist() for i in range(3)]
        for end_id in (3, *END_IDS[folder]):
            prefix = f"{name}|beam{beams}" + ("" if end_id == 3 else f"|end{end_id}")
            answers = [expected[f"{prefix}|out{i}"].tolist() for i in range(3)]
            options = {"max_new_tokens": 12, "end_id": end_id, "num_beams": beams, "use_cache": use_cache}
            assert generate(model, sources, **options) == answers
            assert generate(model, sources, batch_size=1, **options) == answers


SCHEDULES = {"shared": "shared", "unshared": "unshared", "mixed": [0, 1, 0]}
SOURCES = [[2, 50, 61, 72, 83, 3], [2, 90, 3], [2, 11, 12, 13, 14, 15, 16, 17, 3]]


def build(seed=0, **options):
    """Return a tiny model with weights, biases included, that make its choices differ."""
    model = build_model(TINY, **{"application": "unilm", **options})
    random = np.random.default_rng(seed)
    for variable in model.weights:
        scale = 0.3 if variable.ndim == 1 else 0.2
        variable.assign(random.normal(0.0, scale, variable.shape) + ("gamma" in variable.path))
    return model


@pytest.fixture(scope="module")
def model():
    """One such model for all tests that do not change it: what it has compiled serves the next."""
    return build()


@pytest.mark.eager
@pytest.mark.parametrize("sharing", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_cached_logits_equal_those_of_the_whole_model_at_every_step(application, sharing):
    model = build(application=application, sharing=sharing, with_mlm="linear")
    decoding = CachedDecoding(Decoder.of(model), SOURCES, num_beams=2, max_new_tokens=6)
    random = np.random.default_rng(1)
    new_tokens = np.zeros((3, 2, 0), int)
    log_probs = np.repeat(decoding.start(), 2, axis=1)
    for step in range(5):
        np.testing.assert_allclose(log_probs, recomputed(model, new_tokens, application), atol=1e-5)
        # Token 0 is padding to the model, also where the model itself has written it.
        parents, tokens = random.integers(0, 2, (3, 2)), random.integers(0, 211, (3, 2)) * (step != 2)
        new_tokens = np.take_along_axis(new_tokens, parents[:, :, None], axis=1)
        new_tokens = np.concatenate([new_tokens, tokens[:, :, None]], axis=-1)
        log_probs = decoding.advance(parents, tokens)


def recomputed(model, new_tokens, application):
    """Log probabilities from the model's own output, each source unpadded."""
    rows = []
    for source, beams in zip(SOURCES, new_tokens, strict=True):
        token_ids = np.concatenate([[source] * len(beams), beams], axis=1).astype("int32")
        segment_ids = np.arange(token_ids.shape[1]) >= len(source) * np.ones((len(beams), 1))
        outputs = model.predict_on_batch([token_ids, (segment_ids * (application == "unilm")).astype("int32")])
        logits = keras.ops.convert_to_numpy(outputs)[:, -1].astype("float64")
        rows.append(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))
    return np.stack(rows)


@pytest.mark.once
@pytest.mark.parametrize(
    "options",
    [
        {"hierarchical_position": True, "max_position_embeddings": 5},
        {"with_pool": True},
        {"with_nsp": True, "with_mlm": "linear"},
        {"custom_position_ids": True},
        {"masked_positions": True},
        {"num_hidden_layers": 4, "num_hidden_groups": 2},
        {"application": "lm", "with_mlm": "sigmoid"},
    ],
    ids=lambda options: "-".join(options),
)
def test_the_cache_changes_no_answer_whatever_the_model(options):
    model = build(**options)
    search = {"max_new_tokens": 6, "num_beams": 3, "end_id": 3}
    assert generate(model, SOURCES, **search) == generate(model, SOURCES, use_cache=False, **search)


def test_a_model_on_top_of_a_trunk_generates_as_the_trunk(model):
    on_top = keras.Model(model.inputs, keras.layers.Activation("tanh")(model.output))
    assert generate(on_top, SOURCES, 5) == generate(model, SOURCES, 5)


def test_new_weights_are_used_at_the_next_call():
    model, other = build(seed=0), build(seed=1)
    before = generate(model, SOURCES, 5)
    model.set_weights(other.get_weights())
    assert generate(model, SOURCES, 5) == generate(other, SOURCES, 5) != before


def test_draws_depend_on_the_seed_and_not_on_the_batch(model):
    drawn = generate(model, SOURCES, 8, top_p=0.9, temperature=2.0, seed=4)
    assert drawn == generate(model, SOURCES, 8, top_p=0.9, temperature=2.0, seed=4, batch_size=1)
    assert drawn != generate(model, SOURCES, 8, top_p=0.9, temperature=2.0, seed=5)
    assert generate(model, SOURCES, 8, top_k=1, seed=4) == generate(model, SOURCES, 8)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 1.0}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.7}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.71}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_p": 0.1}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.7}, [4 / 7, 3 / 7, 0, 0]),
    ],
    ids=str,
)
def test_tokens_are_drawn_with_the_probabilities_asked_for(options, expected):
    order = [2, 0, 3, 1]
    log_probs = np.log(np.array([0.4, 0.3, 0.2, 0.1], "float32"))[order]
    generator = np.random.default_rng(0)
    drawn = [_draw(log_probs, Options(**options), generator) for _ in range(4000)]
    frequencies = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(frequencies, np.array(expected)[order], atol=0.03)


def test_lengths_stay_within_their_limits(model):
    free = generate(model, SOURCES, 10)
    end_id = free[0][1]
    answers = generate(model, SOURCES, 10, end_id)
    assert answers[0] == free[0][: free[0].index(end_id) + 1]
    longer = generate(model, SOURCES, 10, end_id, min_new_tokens=5)
    assert all(5 <= len(answer) <= 10 for answer in longer)
    assert all(end_id not in answer[:4] for answer in longer)


def test_repetition_is_controlled(model):
    answers = generate(model, SOURCES, 20, no_repeat_ngram_size=1)
    assert all(len(set(answer)) == 20 for answer in answers)
    penalised = generate(model, SOURCES, 20, repetition_penalty=1e6)
    assert all(len(set(answer)) == 20 for answer in penalised)
    answers = generate(model, SOURCES, 20, no_repeat_ngram_size=2)
    pairs = [list(pairwise(answer)) for answer in answers]
    assert all(len(set(answer)) == 19 for answer in pairs)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_logits_processor_decides_for_each_source_what_is_allowed(model, num_beams):
    allowed = [{7, 8}, {20, 21, 22}, set(range(100, 110))]

    def processor(log_probs, new_tokens, source_indexes):
        assert log_probs.shape == (len(new_tokens), 211)
        for row, index in zip(log_probs, source_indexes, strict=True):
            row[[token for token in range(211) if token not in allowed[index]]] = -np.inf
        return log_probs

    answers = generate(model, SOURCES, 6, num_beams=num_beams, logits_processor=processor)
    assert all(set(answer) <= tokens for answer, tokens in zip(answers, allowed, strict=True))


def test_streaming_gives_what_generate_returns(model):
    for options in ({}, {"top_k": 5, "seed": 2}, {"end_id": generate(model, SOURCES[:1], 4)[0][2]}):
        assert (
            list(stream(model, SOURCES[0], max_new_tokens=7, **options))
            == generate(model, SOURCES[:1], 7, **options)[0]
        )


def test_sources_may_be_arrays_padded_or_none(model):
    padded = np.array([[2, 90, 3, 0, 0]])
    assert generate(model, padded, 4) == generate(model, [[2, 90, 3]], 4)
    assert generate(model, [], 4) == []


@pytest.mark.parametrize(
    ("sources", "options", "error", "words"),
    [
        ([[2, 3], []], {}, DataError, "Source 1 is empty"),
        ([[2, 3], [0, 0]], {}, DataError, "Source 1 is empty"),
        ([2, 3], {}, DataError, "one list a source"),
        ([[2, 211]], {}, DataError, "has the token id 211"),
        ([[2, -4]], {}, DataError, "has the token id -4"),
        ([[2.0, 3.5]], {}, DataError, "lists of token ids"),
        ([[2] * 60], {}, DataError, "64 positions"),
        ([[2, 3]], {"end_id": 211}, ConfigError, "end_id must be a whole number, from 0 to 210"),
        ([[2, 3]], {"max_new_tokens": 0}, ConfigError, "max_new_tokens must be a whole number, 1 or more"),
        ([[2, 3]], {"min_new_tokens": 9}, ConfigError, "min_new_tokens"),
        ([[2, 3]], {"num_beams": 300}, ConfigError, "num_beams"),
        ([[2, 3]], {"num_beams": 2, "top_k": 3}, ConfigError, "one or the other"),
        ([[2, 3]], {"top_p": 1.5}, ConfigError, "top_p must be above 0 and at most 1"),
        ([[2, 3]], {"temperature": 0}, ConfigError, "temperature must be above 0"),
        ([[2, 3]], {"batch_size": 0}, ConfigError, "batch_size"),
        ([[2, 3]], {"logits_processor": lambda p, *_: p[:, :5]}, ConfigError, "returned"),
        ([[2, 3]], {"logits_processor": lambda p, *_: p - np.inf}, DataError, "no token to go on with"),
        ([[2, 3]], {"logits_processor": lambda p, *_: p - np.inf, "top_p": 0.5}, DataError, "no token to go on with"),
    ],
)
def test_what_cannot_be_used_is_said(model, sources, options, error, words):
    with pytest.raises(error, match=words):
        generate(model, sources, **{"max_new_tokens": 8, **options})


def test_models_that_predict_no_next_token_are_refused():
    with pytest.raises(ConfigError, match="application='unilm'"):
        generate(build(application="encoder", with_mlm=True), SOURCES)
    trunk = build()
    without_head = keras.Model(trunk.inputs, trunk.hidden_states[-1])
    with pytest.raises(ConfigError, match="application='unilm'"):
        generate(without_head, SOURCES)
    with pytest.raises(ConfigError, match="use generate"):
        stream(trunk, SOURCES[0], num_beams=2)
