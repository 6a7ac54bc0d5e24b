"""Every point between shared and unshared starts as exactly the checkpoint's function, and is saved as it is."""

import functools
import re

import keras
import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import untidy

from bert4albert import (
    CheckpointError,
    ConfigError,
    build_model,
    merge_depths,
    save_google_checkpoint,
    save_hf,
    trunk_of,
)
from bert4albert.checkpoint.export import write_npz
from bert4albert.checkpoint.names import count_parameters, weight_shapes
from bert4albert.config import ModelConfig
from bert4albert.weights import weights_of

STRUCTURES = ["shared", "unshared", "groups:2", "cycle:2", "cycle_rev:2", "sandwich", "middle_cycle:1", [0, 1, 0]]
PARTS = ["attention", "feed_forward", "attention_norm", "output_norm", "norm"]
PAIRS = [
    ("attention", "feed_forward"),
    ("attention", "norm"),
    ("feed_forward", "norm"),
    ("attention_norm", "output_norm"),
]
POINTS = {
    **{str(spec): {"sharing": spec} for spec in STRUCTURES},
    **{part: {"sharing": {part: "unshared"}} for part in PARTS},
    **{"+".join(pair): {"sharing": dict.fromkeys(pair, "unshared")} for pair in PAIRS},
    "mixed": {"sharing": {"attention": "cycle:2", "feed_forward": "unshared", "norm": "groups:2"}},
    "lora": {"depth_lora": 3},
    "lora_of_attention": {"depth_lora": {"rank": 2, "parts": ["attention"], "alpha": 5}},
    "bias": {"depth_bias": True},
    "all": {"sharing": {"feed_forward": "groups:2"}, "depth_lora": 2, "depth_bias": True},
}
TOLERANCE = 2e-6 if keras.backend.backend() == "tensorflow" else 5e-6


@pytest.fixture
def checkpoint(golden):
    """The config and the checkpoint of Google's small ALBERT, one block at three depths."""
    case = golden("google_albert")
    return case.config, case.checkpoint


def hidden_states(trunk, batch):
    embedded = trunk.embeddings(batch.token_ids, batch.segment_ids)
    mask = trunk.get_layer("attention_mask")(batch.token_ids, batch.segment_ids)
    return np.stack([to_numpy(state) for state in trunk.encoder(embedded, mask).hidden_states])


@pytest.fixture(scope="module")
def trained(golden):
    """A function: point -> a trunk that took three steps there; the same one to all that ask, so leave it as it is."""
    case = golden("google_albert")

    @functools.cache
    def make(point):
        trunk = build_model(case.config, case.checkpoint, **POINTS[point])
        generator = np.random.default_rng(0)
        token_ids, targets = generator.integers(1, 211, (3, 13)), generator.normal(size=(3, 13, 48))
        # Compiling takes longer than three steps.
        trunk.compile(keras.optimizers.AdamW(1e-3), "mse", run_eagerly=keras.backend.backend() == "tensorflow")
        for _ in range(3):
            trunk.train_on_batch([token_ids, token_ids % 2], targets)
        return trunk

    return make


@pytest.mark.parametrize("point", POINTS)
def test_every_point_starts_as_the_checkpoint(checkpoint, batch, tmp_path, point):
    expected = hidden_states(build_model(*checkpoint), batch)
    trunk = build_model(*checkpoint, **POINTS[point])
    assert np.abs(hidden_states(trunk, batch) - expected).max() < TOLERANCE
    trunk.save(tmp_path / "model.keras")
    reloaded = trunk_of(keras.models.load_model(tmp_path / "model.keras"))
    assert np.abs(hidden_states(reloaded, batch) - expected).max() < TOLERANCE
    shapes = {name: tuple(weight.shape) for name, weight in trunk.named_weights()}
    assert shapes == weight_shapes(trunk.config)
    assert count_parameters(shapes.values()) == trunk.count_params()
    assert ModelConfig.from_dict(trunk.config.to_dict()) == trunk.config


@pytest.mark.once
@pytest.mark.parametrize("folder", ["google_albert_groups", "google_albert_inner", "google_bert"])
@pytest.mark.parametrize("sharing", ["shared", "unshared", {"attention": "unshared"}, {"norm": "unshared"}])
def test_a_checkpoint_with_more_blocks_goes_further_apart(golden, batch, folder, sharing):
    case = golden(folder)
    trunk = build_model(case.config, case.checkpoint, sharing=sharing)
    own = build_model(case.config, case.checkpoint)
    assert np.abs(hidden_states(trunk, batch) - hidden_states(own, batch)).max() < TOLERANCE
    if sharing == "shared":
        assert trunk.config.sharing == own.config.sharing


@pytest.mark.parametrize("point", ["mixed", "sandwich", "lora_of_attention", "all"])
def test_a_trained_point_reloads_to_the_bit(checkpoint, trained, batch, tmp_path, point):
    trunk = trained(point)
    expected = hidden_states(trunk, batch)
    trunk.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert trunk_of(reloaded).config == trunk.config
    assert (hidden_states(reloaded, batch) == expected).all()
    trunk.save_weights(tmp_path / "model.weights.h5")
    fresh = build_model(checkpoint[0], **POINTS[point])
    fresh.load_weights(tmp_path / "model.weights.h5")
    assert (hidden_states(fresh, batch) == expected).all()
    write_npz(weights_of(trunk), tmp_path / "own" / "model.npz")
    own = build_model(tmp_path / "own")
    assert own.config == trunk.config
    assert (hidden_states(own, batch) == expected).all()


@pytest.mark.once
@pytest.mark.parametrize("point", ["mixed", "sandwich", "all"])
def test_other_formats_hold_a_point_with_a_block_for_each_depth(trained, batch, tmp_path, point):
    trunk = trained(point)
    expected = hidden_states(trunk, batch)
    save_hf(trunk, tmp_path / "hf")
    save_google_checkpoint(trunk, tmp_path / "google" / "model.ckpt")
    tolerance = 1e-5 if point == "all" else 0
    for folder in ("hf", "google"):
        again = build_model(tmp_path / folder)
        assert again.config.sharing == (0, 1, 2)
        assert np.abs(hidden_states(again, batch) - expected).max() <= tolerance
    if point == "mixed":
        back = build_model(tmp_path / "hf", sharing=POINTS[point]["sharing"])
        assert (hidden_states(back, batch) == expected).all()


@pytest.mark.parametrize("point", ["mixed", "lora_of_attention", "all"])
def test_merged_depths_compute_the_same(trained, batch, point):
    trunk = trained(point)
    before = hidden_states(trunk, batch)
    plain = merge_depths(trunk)
    assert plain.config.sharing == (0, 1, 2)
    assert not plain.config.has_adapters
    assert np.abs(hidden_states(plain, batch) - before).max() < 1e-5
    assert (hidden_states(trunk, batch) == before).all()


@pytest.mark.once
def test_what_is_unshared_part_by_part_adds_up_to_all(checkpoint):
    def parameters(sharing):
        return build_model(checkpoint[0], sharing=sharing).count_params()

    shared = parameters("shared")
    parts = [parameters({part: "unshared"}) - shared for part in ("attention", "feed_forward", "norm")]
    assert sum(parts) == parameters("unshared") - shared
    norms = [parameters({part: "unshared"}) - shared for part in ("attention_norm", "output_norm")]
    assert sum(norms) == parts[2]
    assert parts[2] == 2 * 2 * 2 * 48
    lora = build_model(checkpoint[0], depth_lora=3).count_params() - shared
    assert lora == 3 * 3 * (4 * (48 + 48) + (48 + 80) + (80 + 48))
    assert build_model(checkpoint[0], depth_bias=True).count_params() - shared == 3 * (4 * 48 + 80 + 48 + 4 * 48)


@pytest.mark.parametrize("point", ["mixed", "sandwich", "feed_forward"])
def test_gradients_of_the_copies_add_up_to_that_of_the_shared_weight(checkpoint, batch, point):
    def step(**options):
        trunk = build_model(*checkpoint, **options)
        before = {name: to_numpy(value).copy() for name, value in trunk.named_weights()}
        trunk.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=keras.backend.backend() == "tensorflow")
        trunk.train_on_batch([batch.token_ids, batch.segment_ids], np.ones((3, 13, 48)))
        return {name: before[name] - to_numpy(value) for name, value in trunk.named_weights()}

    shared, apart = step(), step(**POINTS[point])
    for name, gradient in shared.items():
        if not name.startswith("encoder/"):
            continue
        rest = name.removeprefix("encoder/block_0/")
        total = sum(value for other, value in apart.items() if re.sub(r"^encoder/block_\d+/", "", other) == rest)
        assert np.abs(total - gradient).max() <= 2e-6 + 1e-4 * np.abs(gradient).max(), name


def test_a_frozen_base_trains_what_the_depths_add_and_the_heads(checkpoint, batch, tmp_path):
    trunk = build_model(*checkpoint, depth_lora=2, depth_bias=True, with_pool=True)
    trunk.freeze_base()
    trainable = {id(value) for value in trunk.trainable_variables}
    names = {name for name, value in trunk.named_weights() if id(value) in trainable}
    assert all(name.startswith(("encoder/depth_", "pooler/")) for name in names)
    assert len(names) == sum(name.startswith(("encoder/depth_", "pooler/")) for name, _ in trunk.named_weights())
    trunk.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(reloaded.trainable_variables) == len(trainable)
    with pytest.raises(ConfigError, match="depth_lora=8"):
        build_model(*checkpoint).freeze_base()


@pytest.mark.once
def test_weights_that_differ_are_not_brought_together(checkpoint):
    config, arrays = checkpoint
    apart = untidy(build_model(config, arrays, sharing="unshared"))
    values = {name: to_numpy(value) for name, value in apart.named_weights()}
    own = apart.config.to_dict()
    assert build_model(own, values).config.sharing == (0, 1, 2)
    with pytest.raises(CheckpointError, match=r"depths \[0, 2\].*different weights.*unshared"):
        build_model(own, values, sharing="cycle:2")
    with pytest.raises(CheckpointError, match="different weights"):
        build_model(own, values, sharing={"attention": [0, 0, 0]})
    equal = build_model(config, arrays, sharing="unshared")
    values = {name: to_numpy(value) for name, value in equal.named_weights()}
    assert build_model(own, values, sharing="cycle:2").config.sharing == (0, 1, 0)


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth_lora": 0}, "rank"),
        ({"depth_lora": {"rank": 2, "part": ["attention"]}}, "Did you mean 'parts'"),
        ({"depth_lora": {"rank": 2, "parts": ["norm"]}}, "Norms have no kernel"),
        ({"depth_lora": {"rank": 2, "alpha": float("nan")}}, "alpha"),
        ({"depth_bias": 1}, "depth_bias"),
        ({"model": "albert_unshared", "sharing": "groups:2"}, "two things"),
        ({"sharing": "groups:9"}, "groups:9"),
        ({"sharing": {"atention": "unshared"}}, "Did you mean 'attention'"),
    ],
)
def test_a_point_that_is_none_says_what_to_write(checkpoint, options, words):
    with pytest.raises(ConfigError, match=words):
        build_model(*checkpoint, **options)


@pytest.mark.once
def test_what_depths_add_needs_the_config_that_knows_it(checkpoint):
    trunk = untidy(build_model(*checkpoint, depth_lora=2))
    values = {name: to_numpy(value) for name, value in trunk.named_weights()}
    with pytest.raises(CheckpointError, match="merge_depths"):
        build_model(checkpoint[0], values)
    lost = {name: value for name, value in values.items() if "depth_1" not in name}
    with pytest.raises(CheckpointError, match="missing encoder/depth_1"):
        build_model(trunk.config.to_dict(), lost)
    assert build_model(trunk.config.to_dict(), values).config.depth_lora.rank == 2


def test_remat_survives_saving(checkpoint, batch, tmp_path):
    trunk = build_model(*checkpoint, remat=True)
    trunk.save(tmp_path / "model.keras")
    assert trunk_of(keras.models.load_model(tmp_path / "model.keras")).config.remat
