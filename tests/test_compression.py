"""Unshared trunks in a small form, fewer copies out of many, and what points between shared and unshared cost."""

import json

import keras
import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import TINY

from bert4albert import (
    ConfigError,
    Tokenizer,
    build_model,
    compress_depths,
    describe_sharing,
    drift,
    merge_depths,
    reshare,
    suggest_sharing,
)
from bert4albert.cli import main
from bert4albert.finding import model_folder
from bert4albert.pictures import draw_drift
from bert4albert.tasks import TextClassifier, load_task

pytestmark = pytest.mark.eager

CONFIG = TINY | {"num_hidden_layers": 4, "num_hidden_groups": 1}
TOKENS = np.random.default_rng(2).integers(1, 211, (3, 11)).astype("int32")
INPUTS = [TOKENS, np.zeros_like(TOKENS)]


def trained(rank=None, groups=1, size=0.05, **options):
    """An unshared trunk whose depths have moved from where they began, kernels by so much rank; and the start."""
    config = CONFIG | {"num_hidden_groups": groups}
    shared = build_model(config, model="albert", **options)
    random = np.random.default_rng(1)
    for weight in shared.weights:
        weight.assign(to_numpy(weight) + random.normal(0, 0.1, weight.shape))
    arrays = {name: to_numpy(weight) for name, weight in shared.named_weights()}
    start = build_model(config, arrays, model="albert_unshared", **options)
    trunk = build_model(config, arrays, model="albert_unshared", **options)
    for name, weight in trunk.named_weights():
        if name.startswith("encoder/"):
            move = random.normal(0, size, weight.shape)
            if rank and len(weight.shape) == 2:
                left, values, right = np.linalg.svd(move, full_matrices=False)
                move = left[:, :rank] * values[:rank] @ right[:rank]
            weight.assign(to_numpy(weight) + move)
    return trunk, start


def states(model):
    return to_numpy(model(INPUTS))


@pytest.mark.parametrize("groups", [1, 2])
def test_full_rank_is_exact(groups):
    trunk, _ = trained(groups=groups, with_pool=True)
    before = states(trunk)
    compressed, report = compress_depths(trunk, rank=48)
    np.testing.assert_allclose(states(compressed), before, atol=1e-5)
    assert report.error < 1e-5
    assert max(report.hidden_drift) < 1e-5
    assert compressed.config.num_blocks == groups
    np.testing.assert_allclose(states(merge_depths(compressed)), before, atol=1e-5)
    assert (states(trunk) == before).all()


def test_the_rank_that_the_depths_have_moved_by_is_enough_from_the_pretrained_block():
    trunk, start = trained(rank=3)
    exact, report = compress_depths(trunk, 3, pretrained=start)
    np.testing.assert_allclose(states(exact), states(trunk), atol=1e-5)
    assert report.error < 1e-5
    _, from_mean = compress_depths(trunk, 3)
    assert 0.1 < from_mean.error < 1
    shared, _ = reshare(start, "shared")
    assert compress_depths(trunk, 3, pretrained=shared)[1].error < 1e-5


def test_the_report_counts_what_the_trunks_have():
    trunk, _ = trained()
    compressed, report = compress_depths(trunk, rank=2)
    block = sum(w.size for n, w in ((n, to_numpy(w)) for n, w in trunk.named_weights()) if "block_0/" in n)
    added = 4 * (4 * 2 * 96 + 2 * 2 * 128 + 4 * 48 + 80 + 48 + 4 * 48)
    assert report.block_parameters == block
    assert report.parameters_before == 4 * block
    assert report.parameters_after == block + added == compressed.encoder.count_params()
    assert report.blocks == pytest.approx((block + added) / block)
    assert report.bytes_after == 4 * compressed.count_params()
    assert all(0 < moved < 1 for moved in report.hidden_drift)
    assert "rank 2" in str(report)


def test_the_error_falls_as_the_rank_grows():
    trunk, _ = trained()
    errors = [compress_depths(trunk, rank)[1].error for rank in (1, 4, 16, 47)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.8


def test_a_compressed_trunk_can_be_saved_in_the_small_form(tmp_path):
    compressed, _ = compress_depths(trained()[0], rank=4)
    compressed.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert (states(again) == states(compressed)).all()
    assert again.count_params() == compressed.count_params()


@pytest.mark.parametrize(("rank", "message"), [(0, "rank"), (2.5, "rank"), (True, "rank"), ("99%", "takes a task")])
def test_a_rank_that_is_none_is_refused(rank, message):
    with pytest.raises(ConfigError, match=message):
        compress_depths(trained()[0], rank)


def test_depths_of_a_config_that_shares_nothing_get_one_block():
    bert = build_model(CONFIG | {"family": "bert", "embedding_size": 48})
    compressed, _ = compress_depths(bert, 48)
    assert compressed.config.num_blocks == 1
    np.testing.assert_allclose(states(compressed), states(bert), atol=1e-5)


def test_a_start_of_another_shape_is_refused():
    other = build_model(CONFIG | {"num_hidden_layers": 3}, sharing="unshared")
    with pytest.raises(ConfigError, match="3 depths"):
        compress_depths(trained()[0], 2, pretrained=other)
    with pytest.raises(ConfigError, match="3 depths"):
        drift(trained()[0], other)


def test_drift_gives_distance_and_rank_of_every_part():
    trunk, start = trained(rank=3)
    found = drift(trunk, start)
    assert [(d.depth, d.part) for d in found[:4]] == [
        (0, "attention"), (0, "attention_norm"), (0, "feed_forward"), (0, "output_norm")
    ]  # fmt: skip
    assert len(found) == 16
    weights = [{n: to_numpy(w) for n, w in t.named_weights()} for t in (trunk, start)]
    names = [n for n in weights[0] if n.startswith("encoder/block_2/attention/")]
    moved, size = (
        sum(np.square(a[n] - b[n]).sum() for n in names) for a, b in (weights, (weights[1], {n: 0 for n in names}))
    )
    assert found[8].distance == pytest.approx(float(np.sqrt(moved / size)), rel=1e-4)
    assert {d.rank for d in found if "norm" in d.part} == {None}
    assert all(2 <= d.rank <= 3 for d in found if "norm" not in d.part)


@pytest.mark.once
def test_drift_can_be_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    files = draw_drift(drift(*trained(rank=3)), tmp_path / "drift")
    assert [file.name for file in files] == ["drift.png", "drift.svg"]
    assert all(file.stat().st_size > 1000 for file in files)


def test_nothing_has_drifted_at_the_start():
    _, start = trained()
    for found in (drift(start), drift(start, start)):
        assert all(d.distance < 1e-6 and not d.rank for d in found)


def test_drift_of_what_depths_add_is_measured_from_the_weights_they_share():
    trunk, start = trained(rank=3)
    compressed, _ = compress_depths(trunk, 3, pretrained=start)
    for one, two in zip(drift(compressed), drift(trunk, start), strict=True):
        if "norm" not in one.part:
            assert one.distance == pytest.approx(two.distance, rel=0.05)
            assert one.rank == two.rank


@pytest.mark.parametrize("sharing", ["shared", "groups:2", [0, 1, 0, 1], {"attention": "shared"}])
def test_resharing_averages_copies(sharing):
    trunk, _ = trained()
    before = states(trunk)
    reshared, report = reshare(trunk, sharing, INPUTS)
    expected = build_model(CONFIG, sharing=sharing if not isinstance(sharing, dict) else {**sharing})
    if isinstance(sharing, list | str):
        assert reshared.config.sharing == expected.config.sharing
    weights, old = ({n: to_numpy(w) for n, w in t.named_weights()} for t in (reshared, trunk))
    copies = reshared.config.sharing.attention
    for copy in set(copies):
        mean = np.mean([old[f"encoder/block_{d}/attention/key/kernel"] for d in range(4) if copies[d] == copy], axis=0)
        np.testing.assert_allclose(weights[f"encoder/block_{copy}/attention/key/kernel"], mean, atol=1e-6)
    assert (states(trunk) == before).all()
    change = np.linalg.norm(states(reshared) - before) / np.linalg.norm(before)
    assert report.hidden_drift[-1] == pytest.approx(float(change), rel=1e-3)
    assert all(distance > 0 for distance in report.distances["attention"])
    assert report.parameters_after < report.parameters_before


def test_resharing_into_as_many_copies_changes_nothing():
    trunk, _ = trained()
    same, report = reshare(trunk, "unshared")
    np.testing.assert_allclose(states(same), states(trunk), atol=1e-6)
    assert max(report.hidden_drift) < 1e-6


def test_texts_need_a_tokenizer():
    trunk, _ = trained()
    with pytest.raises(ConfigError, match="tokenizer"):
        reshare(trunk, "shared", ["好"])
    tokenizer = Tokenizer({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "好": 5})
    assert len(reshare(trunk, "shared", ["好", "好好"], tokenizer)[1].hidden_drift) == 4


def test_depths_that_are_alike_are_suggested_to_be_shared():
    trunk, _ = trained(size=0.01)
    weights = dict(trunk.named_weights())
    for name, weight in weights.items():
        if "block_3/" in name:
            twin = weights[name.replace("block_3/", "block_1/")]
            weight.assign(to_numpy(twin) + 1e-3 * np.random.default_rng(0).normal(size=twin.shape))
        if "block_2/" in name and name.endswith("kernel"):
            weight.assign(to_numpy(weight) + 0.5)
    assert suggest_sharing(trunk, 4) == [0, 1, 2, 3]
    assert suggest_sharing(trunk, 3) == [0, 1, 2, 1]
    assert suggest_sharing(trunk, 2) == [0, 0, 1, 0]
    assert suggest_sharing(trunk, 1) == [0, 0, 0, 0]
    for blocks in (0, 5, 1.5):
        with pytest.raises(ConfigError, match="blocks"):
            suggest_sharing(trunk, blocks)


@pytest.mark.slow
@pytest.mark.once
def test_rank_8_keeps_98_percent_of_the_answers_of_a_classifier(shared):
    files = [shared / "data" / "sentiment" / f"sentiment.{split}.data.gz" for split in ("train", "valid")]
    trunk = build_model("albert_tiny_zh", model="albert_unshared", dropout_rate=0.1)
    task = TextClassifier(trunk, Tokenizer(model_folder("albert_tiny_zh")), pooling="mean", maxlen=64)
    task.fit(task.read(files[0])[:2000], epochs=3, learning_rate=5e-4, seed=1, verbose=0)
    _, report = task.compress(rank=8, texts=task.read(files[1]))
    assert report.answers_kept >= 0.98
    assert report.blocks <= 1.2


VOCABULARY = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"好坏天气我你他很不"])}


def classifier():
    trunk, _ = trained(size=0.02)
    task = TextClassifier(trunk, Tokenizer(VOCABULARY), labels=["bad", "good"], maxlen=16)
    random = np.random.default_rng(8)
    for weight in task.model.weights[-2:]:
        weight.assign(random.normal(0, 1, weight.shape))
    texts = ["".join(random.choice([*"好坏天气我你他很不"], random.integers(1, 9))) for _ in range(24)]
    return task, texts


def test_a_task_is_compressed_with_its_head(tmp_path):
    task, texts = classifier()
    new, report = task.compress(rank=48, texts=texts)
    assert new.predict(texts) == task.predict(texts)
    assert report.answers_kept == 1
    assert not report.metrics_before
    assert type(new) is TextClassifier
    assert new is not task
    examples = [(text, answer) for text, answer in zip(texts, new.predict(texts), strict=True)]
    small, report = task.compress(rank=2, texts=examples)
    assert report.metrics_before["accuracy"] == 1
    assert report.metrics_after["accuracy"] == pytest.approx(report.answers_kept)
    assert task.compress(rank=2)[1].answers_kept is None
    small.save(tmp_path)
    assert load_task(tmp_path).predict(texts) == small.predict(texts)


def test_the_smallest_rank_is_found_that_keeps_so_many_answers():
    task, texts = classifier()
    new, report = task.compress(rank="90%", texts=texts)
    assert report.answers_kept >= 0.9
    assert report.rank in (1, 2, 4, 8, 16, 32, 48)
    assert new.backbone.config.depth_lora.rank == report.rank
    for rank in (r for r in (1, 2, 4, 8, 16, 32) if r < report.rank):
        assert task.compress(rank=rank, texts=texts)[1].answers_kept < 0.9
    assert task.compress(rank="100%", texts=texts)[1].answers_kept == 1


@pytest.mark.parametrize("rank", ["99", "0%", "101%", "many"])
def test_a_share_of_answers_is_a_percentage(rank):
    task, texts = classifier()
    with pytest.raises(ConfigError, match="share of answers"):
        task.compress(rank=rank, texts=texts)
    with pytest.raises(ConfigError, match="give the texts"):
        task.compress(rank="99%")


@pytest.mark.parametrize(
    "spec",
    ["shared", "unshared", "groups:2", [0, 1, 1, 0], {"attention": "unshared"}, {"norm": "unshared"},
     {"depth_lora": 3}, {"sharing": "groups:2", "depth_lora": 3, "depth_bias": True, "freeze_base": True}],
)  # fmt: skip
def test_costs_are_those_of_the_model_that_is_built(spec):
    (cost,) = describe_sharing(CONFIG, [spec])
    point = dict(spec) if isinstance(spec, dict) and not spec.keys() & {"attention", "norm"} else {"sharing": spec}
    frozen = point.pop("freeze_base", False)
    trunk = build_model(CONFIG, **point)
    if frozen:
        trunk.freeze_base()
    assert cost.parameters == trunk.count_params()
    assert cost.trainable == sum(to_numpy(weight).size for weight in trunk.trainable_variables)
    assert (cost.weights, cost.gradients, cost.optimizer) == (
        4 * cost.parameters,
        4 * cost.trainable,
        8 * cost.trainable,
    )
    assert cost.total == cost.weights + cost.gradients + cost.optimizer


def test_unsharing_each_part_alone_adds_up_to_unsharing_all():
    specs = ["shared", *({part: "unshared"} for part in ("attention", "feed_forward", "norm")), "unshared"]
    shared, *alone, unshared = [cost.parameters for cost in describe_sharing(CONFIG, specs)]
    assert sum(count - shared for count in alone) == unshared - shared


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ("shared", "list of points"),
        (["sharde"], "Did you mean 'shared'"),
        ([{"depth_laro": 8}], "Did you mean 'depth_lora'"),
        ([{"freeze_base": True}], "adds nothing"),
        ([{"depth_lora": 0}], "rank"),
    ],
)
def test_a_point_that_is_none_is_refused(specs, message):
    with pytest.raises(ConfigError, match=message):
        describe_sharing(CONFIG, specs)


@pytest.mark.once
def test_the_command_prints_a_table_of_points(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    assert main(["sharing", str(path), "shared", '{"depth_lora": 3}', "groups:2"]) == 0
    printed = capsys.readouterr().out
    for cost in describe_sharing(CONFIG, ["shared", {"depth_lora": 3}, "groups:2"]):
        assert f"{cost.parameters:,}" in printed
    assert main(["sharing", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["spec"] == "unshared"
    assert main(["sharing", str(path), "{"]) == 1
    assert "not JSON" in capsys.readouterr().err
    assert main(["inspect", "albert_tiny_zh"]) == 0
    assert "depth_lora" in capsys.readouterr().out
