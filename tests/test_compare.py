"""compare: the same runs however it is interrupted or shared, the numbers of a loop written by hand, honest words."""

import contextlib
import csv
import json
import os
import subprocess
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from support.models import TINY, untidy

from bert4albert import Tokenizer, build_model, save_hf
from bert4albert.cli import main
from bert4albert.errors import ConfigError
from bert4albert.experiment import compare, runs
from bert4albert.experiment.points import read_points
from bert4albert.tasks import TextClassifier

pytestmark = pytest.mark.once

TEXTS = ["春山红", "秋水，蓝蓝蓝蓝", "天", "一二三四五", "红", "蓝天", "山水", "二三"]
EXAMPLES = [(text, "ab"[i % 2]) for i, text in enumerate(TEXTS)]
FIT = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2}
POINTS = ["shared", "unshared"]


class Guesser(TextClassifier):
    """Learns nothing and takes no time: its answers and its weights come from the seed and the rate."""

    def fit(self, train, valid, *, seed, epochs, learning_rate, callbacks, **options):
        """Move the weights at random, and return made-up accuracies."""
        self.learn(train)
        self.random = np.random.default_rng([seed, round(learning_rate * 1e9), self.backbone.config.num_blocks])
        for name, weight in self.backbone.named_weights():
            if name.endswith("kernel"):
                weight.assign(weight + self.random.normal(0, learning_rate, tuple(weight.shape)).astype("float32"))
        accuracies = self.random.uniform(0.4, 0.9, epochs).tolist()
        for epoch in range(epochs):
            for callback in callbacks:
                callback.on_epoch_begin(epoch)
                callback.on_train_batch_end(0)
                callback.on_epoch_end(epoch, {"accuracy": accuracies[epoch]})
        return {"loss": [1.0] * epochs, "accuracy": accuracies}

    def predict(self, texts, batch_size=32, **options):
        """Guess."""
        return [self.labels[i] for i in self.random.integers(0, 2, len(texts))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a small model with weights, which it shares between three depths."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("".join(TEXTS)))]
    keras.utils.set_random_seed(3)
    model = untidy(build_model(TINY | {"vocab_size": len(tokens)}))
    path = tmp_path_factory.mktemp("model")
    save_hf(model, path, Tokenizer(tokens))
    return path


def guesser(folder, **settings):
    return partial(Guesser, tokenizer=Tokenizer(folder), maxlen=16, **settings)


def compared_in(out, folder, points=POINTS, make_task=None, **options):
    """Compare in a folder, quietly."""
    options = {"test": EXAMPLES[:5], "seeds": 2, "config": folder, "progress": False, **FIT, **options}
    options = {name: value for name, value in options.items() if value is not None}
    return compare(make_task or guesser(folder), EXAMPLES, EXAMPLES, points, folder=out, **options)


def without_costs(folder):
    """Return the content of all files that do not depend on how long something took."""
    free = ("costs", "report", "quality")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    relative = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: content for name, content in relative.items() if not name.startswith(free)}


@pytest.fixture(scope="module")
def compared(folder, tmp_path_factory):
    """A comparison that nothing interrupted: its folder and its report."""
    out = tmp_path_factory.mktemp("compared")
    return SimpleNamespace(folder=out, report=compared_in(out, folder))


def test_it_writes_tables_words_and_pictures(compared):
    rows = json.loads((compared.folder / "table.json").read_text())["points"]
    assert [row["point"] for row in rows] == POINTS
    with (compared.folder / "table.csv").open() as file:
        assert [row["point"] for row in csv.DictReader(file)] == POINTS
    wanted = {"best", "best_spread", "epoch_1", "best_epoch", "area", "test", "difference", "low", "high", "trainable"}
    assert wanted <= set(rows[0])
    assert rows[0]["difference"] is None
    assert rows[1]["low"] < rows[1]["difference"] < rows[1]["high"]
    costs = json.loads((compared.folder / "costs.json").read_text())["points"]
    assert all(row["seconds_per_epoch"] >= 0 for row in costs)
    assert len(compared.report.sentences) == 3
    text = (compared.folder / "report.md").read_text()
    assert all(sentence in text and sentence in str(compared.report) for sentence in compared.report.sentences)
    settings = json.loads((compared.folder / "comparison.json").read_text())
    assert settings["versions"]["keras"] == keras.__version__
    assert settings["data"]["test"]["examples"] == 5
    pytest.importorskip("matplotlib")
    for name in ("curves", "quality", "drift"):
        assert (compared.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (compared.folder / f"{name}.svg").read_text()


def test_a_run_is_what_a_loop_written_by_hand_gives(folder, tmp_path):
    make_task = partial(TextClassifier, tokenizer=Tokenizer(folder), maxlen=16)
    compared_in(tmp_path, folder, ["unshared"], make_task, seeds=1, jit_compile=False)
    found = json.loads((tmp_path / "runs" / "unshared.seed0.json").read_text())
    task = make_task(build_model(folder, sharing="unshared"))
    assert found["history"] == task.fit(EXAMPLES, EXAMPLES, seed=0, verbose=0, jit_compile=False, **FIT)
    assert found["metrics"] == task.evaluate(EXAMPLES[:5])
    assert found["trainable"] == task.model.count_params()
    assert [answer for _, answer, _ in found["answers"]] == task.predict(TEXTS[:3])


def test_depths_have_moved_apart_only_where_they_may(compared):
    shared, unshared = (
        np.array(json.loads((compared.folder / "runs" / f"{point}.seed0.json").read_text())["drift"]["attention"])
        for point in POINTS
    )
    assert len(set(shared)) == 1
    assert len(set(unshared)) == 3
    assert (shared > 0).all()


class Interrupted(BaseException):
    """Like Ctrl-C: nobody who cleans up may catch it and go on."""


def test_interrupted_at_random_ten_times_it_ends_with_the_same_files(compared, folder, tmp_path, monkeypatch):
    random = np.random.default_rng(1)
    out, interruptions = tmp_path / "again", 0

    def interrupting(function):
        def maybe(*arguments, **options):
            nonlocal interruptions
            if interruptions < 10 and random.random() < 0.4:
                interruptions += 1
                raise Interrupted
            return function(*arguments, **options)

        return maybe

    monkeypatch.setattr(runs, "write_json", interrupting(runs.write_json))
    monkeypatch.setattr(runs, "build_model", interrupting(runs.build_model))
    monkeypatch.setattr(runs._Watch, "on_epoch_end", interrupting(runs._Watch.on_epoch_end))
    while True:
        try:
            compared_in(out, folder)
            break
        except Interrupted:
            pass
    assert interruptions == 10
    assert without_costs(out) == without_costs(compared.folder)


SCRIPT = """
import sys
from pathlib import Path
from test_compare import compared_in

if __name__ == "__main__":
    compared_in(Path(sys.argv[2]), Path(sys.argv[1]), workers=int(sys.argv[3]) or None)
"""


def start(folder, out, workers=0):
    """Start the same comparison in a process of its own."""
    script = out.parent / "script.py"
    script.write_text(SCRIPT)
    search = {"PYTHONPATH": f"{runs.__file__.rsplit('/', 3)[0]}:{__file__.rsplit('/', 1)[0]}"}
    return subprocess.Popen([sys.executable, script, folder, out, str(workers)], env=os.environ | search)


def killed_and_ended(kills, compared, folder, out):
    random = np.random.default_rng(2)
    for _ in range(kills):
        process = start(folder, out)
        # It is killed at a random moment after its first file is there, and before its end.
        while process.poll() is None and not (out / "comparison.json").exists():
            time.sleep(0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(random.uniform(0, 0.7))
        process.kill()
        process.wait()
    assert start(folder, out).wait() == 0
    assert without_costs(out) == without_costs(compared.folder)


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_files(compared, folder, tmp_path):
    killed_and_ended(2, compared, folder, tmp_path / "killed")


@pytest.mark.slow
def test_killed_ten_times_it_ends_with_the_same_files(compared, folder, tmp_path):
    killed_and_ended(10, compared, folder, tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_processes_share_the_work(compared, folder, tmp_path, workers):
    out = tmp_path / "shared"
    processes = [start(folder, out, workers) for _ in range(1 if workers else 2)]
    assert [process.wait() for process in processes] == [0] * len(processes)
    assert without_costs(out) == without_costs(compared.folder)


def test_no_run_is_done_twice_by_many_that_share_a_folder(tmp_path, monkeypatch):
    experiment = runs.Experiment(None, None, None, [], [], None, tmp_path)
    wanted = list(runs.all_runs(read_points(["shared", "unshared", "groups:2"], {}), None, 4))
    done = []

    def carry_out(experiment, run, callbacks):
        done.append(run.name)
        threading.Event().wait(0.01)
        runs.write_json(experiment.file(run), {})

    monkeypatch.setattr(runs, "carry_out", carry_out)
    monkeypatch.setattr(runs, "_PATIENCE", 0.01)
    threads = [threading.Thread(target=runs.work, args=(experiment, wanted)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == sorted(run.name for run in wanted)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(f"{r.name}.json" for r in wanted)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"epochs": 3}, "arguments.epochs = 2, and now it is 3"),
        ({"learning_rate": 1e-3}, "arguments.learning_rate"),
        ({"weight_decay": 0.1}, "arguments.weight_decay = None"),
        ({"learning_rates": (1e-3, 2e-3), "learning_rate": None}, "arguments.learning_rate|learning_rates"),
        ({"test": EXAMPLES[:4]}, "data.test.examples"),
        ({"test": None}, "data.test"),
    ],
)
def test_changed_settings_are_refused_by_name(compared, folder, changed, words):
    before = without_costs(compared.folder)
    with pytest.raises(ConfigError, match=words):
        compared_in(compared.folder, folder, **changed)
    assert without_costs(compared.folder) == before


def test_another_task_is_refused_and_more_seeds_and_points_go_on(folder, tmp_path):
    compared_in(tmp_path, folder, ["shared"], seeds=1)
    with pytest.raises(ConfigError, match=r"task\.settings\.pooling"):
        compared_in(tmp_path, folder, ["shared"], guesser(folder, pooling="mean"))
    first = (tmp_path / "runs" / "shared.seed0.json").read_bytes()
    report = compared_in(tmp_path, folder, {"shared": {"sharing": "shared"}, "mine": {"sharing": [0, 1, 1]}}, seeds=2)
    assert (tmp_path / "runs" / "shared.seed0.json").read_bytes() == first
    assert [result.point for result in report.results] == ["shared", "mine"]


def test_each_point_is_shown_at_the_rate_that_is_best_for_it_on_valid(folder, tmp_path):
    rates = (1e-3, 3e-2)
    report = compared_in(tmp_path, folder, learning_rate=None, learning_rates=rates)
    assert len(list((tmp_path / "runs").iterdir())) == 8
    for result in report.results:
        best = {}
        for rate in rates:
            files = [tmp_path / "runs" / f"{result.point}.rate{rate:g}.seed{seed}.json" for seed in range(2)]
            best[rate] = np.mean([max(json.loads(file.read_text())["history"]["accuracy"]) for file in files])
        assert result.row()["learning_rate"] == max(best, key=best.get)
    assert "learning rate" in str(report)


@pytest.mark.slow
def test_f1_is_resampled_too_and_the_command_prints_the_report(folder, tmp_path, capsys):
    lines = [f"{character} {'B-X' if i == 0 else 'O'}\n" for text in TEXTS for i, character in enumerate(f"{text}。")]
    sentences = "".join(line + ("\n" if line.startswith("。") else "") for line in lines)
    path = tmp_path / "train.txt"
    path.write_text(sentences, encoding="utf-8")
    options = ["--config", folder, "--points", "shared", "unshared", "--seeds", 2, "--epochs", 1, "--maxlen", 16]
    arguments = ["compare", path, path, "--task", "tagging", *options, "--out", tmp_path / "out"]
    assert main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr().out
    assert "best f1" in printed
    assert "Next: " in printed
    run = json.loads((tmp_path / "out" / "runs" / "unshared.seed1.json").read_text())
    assert len(set(run["resampled"])) > 1 or run["metrics"]["f1"] in (0, 1)


@pytest.mark.parametrize(
    ("points", "fit", "words"),
    [
        (["shard"], {}, "Did you mean 'shared'"),
        (["groups:two"], {}, "There is no point 'groups:two'"),
        (["gradual:1.5"], {}, "There is no point"),
        (["shared", "shared"], {}, "each once"),
        ([], {}, "one point or more"),
        ("shared", {}, "a list of names"),
        ({"a": {"epoch": 3}}, {}, "Did you mean 'epochs'"),
        ({"a:2": {}, "a-2": {}}, {}, "files of one name"),
        (["shared"], {"optimizer": "adam"}, "not for all runs"),
        (["shared"], {"early_stopping": 2}, "not for all runs"),
        (["shared"], {"dtype": keras.dtype_policies.DTypePolicy("float32")}, "written down"),
    ],
)
def test_what_cannot_be_compared_is_said(points, fit, words):
    with pytest.raises(ConfigError, match=words):
        read_points(points, fit)


def test_names_of_points_stand_for_arguments():
    names = ["shared", "cycle:2", "feed_forward", "lora:8", "bias", "decay:0.1", "gradual:0.3"]
    found = read_points(names, {"epochs": 2, "dtype": "float32"})
    assert [point.build for point in found] == [
        {"dtype": "float32", **build}
        for build in (
            {"sharing": "shared"},
            {"sharing": "cycle:2"},
            {"sharing": {"feed_forward": "unshared"}},
            {"depth_lora": 8},
            {"depth_bias": True},
            {"sharing": "unshared"},
            {"sharing": "unshared"},
        )
    ]
    assert found[0].fit == {"epochs": 2}
    assert found[5].fit == {"epochs": 2, "sharing_decay": 0.1}
    assert found[6].fit == {"epochs": 2, "unshare_at": {0: "shared", 0.3: "unshared"}}


def test_a_task_that_cannot_be_sent_to_workers_is_said(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"functools\.partial"):
        compared_in(tmp_path, folder, make_task=lambda trunk: guesser(folder)(trunk), workers=2)
