"""compare: the same task fine-tuned at several points between shared and unshared, seed by seed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import keras

from bert4albert.build import build_model
from bert4albert.errors import ConfigError, require_whole
from bert4albert.experiment.points import BASELINE, Point, read_points, split
from bert4albert.experiment.report import Report, write_report
from bert4albert.experiment.runs import Experiment, all_runs, read_run, work
from bert4albert.experiment.watching import Watcher
from bert4albert.experiment.workers import share_work
from bert4albert.files import explained, write_json
from bert4albert.model import Trunk
from bert4albert.tasks import Task

Data = str | os.PathLike[str] | Sequence[Any]
_SETTINGS_FILE = "comparison.json"


def compare(
    make_task: Callable[[Trunk], Task],
    train: Data,
    valid: Data,
    points: Sequence[str] | Mapping[str, Mapping[str, Any]] = (BASELINE, "unshared"),
    *,
    folder: str | os.PathLike[str],
    test: Data | None = None,
    seeds: int = 3,
    learning_rates: Sequence[float] | None = None,
    columns: Mapping[str, str] | None = None,
    config: Any = "albert_tiny_zh",
    checkpoint: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
    **fit: Any,
) -> Report:
    """Fine-tune a task at several points between shared and unshared, and say what the difference is and how sure.

    A seed gives all points the same first weights of the head, the same order of the data and the same number of
    steps. Each finished run is a small file: a comparison that was stopped goes on when it is called again, more
    points or seeds may be asked for later, and any number of processes, also on machines that share the folder, may
    call it with the same arguments; no run is done twice.

    Arguments:
        make_task: makes an untrained task from a trunk.
        train: examples, or the path of a data file.
        valid: examples or a path, on which the best epoch is chosen.
        points: names as in `experiment.points.meaning`, such as 'shared', 'unshared', 'groups:2', 'feed_forward',
            'lora:8', 'decay:0.1', 'gradual:0.3'; or a dictionary from names of your own to arguments of
            `build_model` and `Task.fit`. The others are compared with 'shared', or with the first where it is absent.
        folder: for the runs, the tables (Markdown, CSV, JSON) and the pictures (PNG, SVG).
        test: examples or a path: differences are then measured there, else on `valid`.
        seeds: how many; with a single one no difference can be claimed.
        learning_rates: rates to try; each point is reported at the one that is best for it on `valid`.
        columns: as for `Task.fit`.
        config: as for `build_model`; by default the embedded model.
        checkpoint: as for `build_model`.
        workers: processes that share the runs and the processor's cores; None for this process alone. `make_task`
            must then be something that `pickle` can send, such as the `functools.partial` above.
        progress: whether to say on standard error how far the comparison is.
        fit: more arguments of `build_model` (`dtype`, `application`) and `Task.fit` (`epochs`), for all points.

    Returns:
        The report; `print` shows it. Raises `ConfigError` for arguments that cannot be used, or that differ from
        those that the folder was begun with, and `DataError` for examples that cannot be used. Sets Keras' random
        seed before each run.

    Examples:
        >>> import functools
        >>> from bert4albert import Tokenizer
        >>> from bert4albert.experiment import compare
        >>> from bert4albert.tasks import TextClassifier
        >>> make_task = functools.partial(TextClassifier, tokenizer=Tokenizer("albert_tiny_zh"), maxlen=16)
        >>> train = [("房间干净", "good"), ("又吵又脏", "bad"), ("很满意", "good"), ("太贵了", "bad")]
        >>> points = ["shared", "unshared"]
        >>> report = compare(make_task, train, train, points, folder="compared", seeds=1, epochs=1, progress=False)
        >>> report.metric, len(report.results)
        ('accuracy', 2)
    """
    require_whole("seeds", seeds, 1)
    chosen = read_points(points, fit)
    rates = _read_rates(learning_rates, chosen)
    task = make_task(build_model(config, checkpoint, **split(fit, "compare")[0]))
    examples = [None if data is None else task.examples(data, columns) for data in (train, valid, test)]
    experiment = Experiment(
        make_task, config, checkpoint, examples[0] or [], examples[1] or [], examples[2], Path(folder)
    )
    settings = _settings(experiment, task) | {
        "arguments": fit,
        "learning_rates": rates,
        "points": {point.name: {**point.build, **point.fit} for point in chosen},
        "seeds": seeds,
    }
    _agreed(experiment.folder / _SETTINGS_FILE, settings)
    del task
    runs = list(all_runs(chosen, rates, seeds))
    watcher = Watcher(experiment, runs, progress)
    if workers is None:
        work(experiment, runs, watcher.callbacks)
    else:
        require_whole("workers", workers, 1)
        share_work(experiment, runs, workers, watcher.look)
    watcher.look()
    found = [read_run(experiment.file(run)) for run in runs]
    costs = [read_run(experiment.costs_file(run)) for run in runs]
    return write_report(experiment.folder, [point.name for point in chosen], found, costs)


def _read_rates(rates: Sequence[float] | None, points: Sequence[Point]) -> list[float] | None:
    if rates is None:
        return None
    rates = list(rates)
    if not rates or len(set(rates)) < len(rates) or not all(isinstance(r, int | float) and r > 0 for r in rates):
        raise ConfigError(f"learning_rates must be different numbers above 0, not {rates!r:.80}.")
    if own := [point.name for point in points if "learning_rate" in point.fit]:
        raise ConfigError(f"learning_rates tries rates, and {', '.join(own)} has a learning_rate: give one of the two.")
    return rates


def _settings(experiment: Experiment, task: Task) -> dict[str, Any]:
    """Return what must stay the same for runs to be comparable: data, model, task, versions."""
    trunk = task.backbone
    data = {"train": experiment.train, "valid": experiment.valid, "test": experiment.test}
    return {
        "task": {"class": type(task).__name__, "metric": task.metric, "settings": task.settings()},
        "data": {name: None if found is None else _describe(found) for name, found in data.items()},
        # Paths differ between machines that share a folder, weights do not.
        "weights": "random" if trunk.load_report is None else _hash(_bytes_of(trunk)),
        "versions": {
            "bert4albert": metadata.version("bert4albert"),
            **{name: import_module(name).__version__ for name in ("keras", "numpy", keras.backend.backend())},
        },
    }


def _describe(examples: Sequence[Any]) -> dict[str, Any]:
    # Text, answer and weight; where an example was read differs between machines.
    texts = (json.dumps(example[:3], ensure_ascii=False, default=str).encode() for example in examples)
    return {"examples": len(examples), "sha256": _hash(texts)}


def _bytes_of(trunk: Trunk) -> Iterator[bytes]:
    for name, weight in trunk.named_weights():
        yield name.encode()
        yield keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")).tobytes()


def _hash(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _agreed(path: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a comparison, or raise `ConfigError` if its folder was begun with others."""
    settings = json.loads(json.dumps(settings, default=str))
    if path.exists():
        before = read_run(path)
        both = [name for name in settings["points"] if name in before["points"]]
        old, new = _comparable(before, both), _comparable(settings, both)
        for name in {**new, **old}:
            if old.get(name) != new.get(name):
                raise ConfigError(
                    f"{path.parent} was begun with {name} = {old.get(name)!r:.60}, and now it is "
                    f"{new.get(name)!r:.60}: give what it was, or another folder."
                )
        settings["points"] = {**before["points"], **settings["points"]}
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _comparable(settings: Mapping[str, Any], points: Sequence[str]) -> dict[str, Any]:
    """Return what must not change, one entry for each setting: points and seeds may be added."""
    kept = {name: value for name, value in settings.items() if name not in ("points", "seeds")}
    return _flat({**kept, "points": {name: settings["points"][name] for name in points}})


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
