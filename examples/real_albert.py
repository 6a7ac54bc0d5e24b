"""Points between shared and unshared on weights that others have pretrained: the Traditional Chinese ALBERT of MONPA.

    pip install --no-deps monpa==0.3.3
    pip install opencc-python-reimplemented
    python examples/real_albert.py --data ../shared/data --out compared_monpa

The package monpa (Wen-Lian Hsu and others) carries an ALBERT of 8 layers that share one block of width 300, trained on
to segment, tag and name in Traditional characters. Its licence is CC BY-NC-SA 4.0: try it, and look for another model
for anything that is sold. Only its files are read, its code is not run. Its own head and CRF are left out by
`ignore`; the data is mapped to Traditional characters first.
"""

import gzip
import random
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from common import require_folder, run, show_answers  # isort: skip  (sets TensorFlow up)

from bert4albert import Tokenizer, build_model
from bert4albert.command_line import CommandParser
from bert4albert.errors import ConfigError
from bert4albert.experiment import compare
from bert4albert.tasks import Tagger, TextClassifier

TASKS = {
    "ner": (Tagger, {"method": "crf", "maxlen": 96}, "ner/{}.txt.gz"),
    "iflytek": (TextClassifier, {"pooling": "mean", "maxlen": 96}, "iflytek/{}.json.gz"),
}


def package_folder(name: str) -> Path:
    """Return the folder of an installed package, which is not imported."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"The package {name} is not installed: pip install --no-deps {name}==0.3.3")
    return Path(spec.submodule_search_locations[0])


def in_traditional(source: Path, target: Path) -> Path:
    """Write a text file anew, character by character in Traditional characters, and return the new file."""
    try:
        from opencc import OpenCC
    except ImportError:
        raise ConfigError("Traditional characters need OpenCC: pip install opencc-python-reimplemented") from None
    text = gzip.decompress(source.read_bytes()).decode()
    convert = OpenCC("s2t").convert
    # One by one, since whole words may change their length, and with it what is where.
    table = {ord(character): convert(character) for character in set(text)}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text.translate(table), encoding="utf-8")
    return target


def main() -> None:
    """Compare on one task or both, and print what came of it."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with ner and iflytek")
    parser.add_argument("--out", type=Path, default=Path("compared_monpa"), help="folder of the results")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which to compare on")
    parser.add_argument(
        "--points", nargs="+", default=["shared", "unshared", "groups:2", "lora:8"], help="what to compare"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each point")
    parser.add_argument("--epochs", type=int, default=4, help="times through the examples")
    parser.add_argument("--learning-rate", type=float, nargs="+", default=[1e-4, 3e-4], help="of several, the best")
    parser.add_argument("--limit", type=int, default=1500, help="training examples; a fifth more to choose on")
    parser.add_argument("--test-limit", type=int, default=500, help="examples to compare on")
    parser.add_argument("--workers", type=int, help="processes that share the runs; default: this one alone")
    arguments = parser.parse_args()
    require_folder(arguments.out, "--out")
    monpa = package_folder("monpa")
    model = {
        "config": str(monpa / "albert_config" / "albert_config_mo.json"),
        "checkpoint": str(monpa / "model" / "monpa_model_8000.pt"),
        "ignore": ["classifier.*", "crf_layer.*"],
    }
    # A token that stands there twice counts once, as in the package's own tokenizer.
    tokens = dict.fromkeys((monpa / "vocab_monpa.vocab").read_text(encoding="utf-8").rstrip("\n").split("\n"))
    tokenizer = Tokenizer(list(tokens), do_lower_case=False)
    for name in arguments.tasks:
        task_class, settings, file = TASKS[name]
        task = task_class(build_model(**model), tokenizer, **settings)
        train, test = (
            task.examples(
                in_traditional(arguments.data / file.format(split), arguments.out / "data" / file[:-3].format(split))
            )
            for split in ("train", "dev")
        )
        task.learn([*train, *test])
        drawn = random.Random(0).sample(train, min(len(train), arguments.limit + arguments.limit // 5))
        report = compare(
            partial(task_class, tokenizer=tokenizer, **task.settings()),
            drawn[: arguments.limit],
            drawn[arguments.limit :],
            arguments.points,
            folder=arguments.out / name,
            test=random.Random(0).sample(test, min(len(test), arguments.test_limit)),
            seeds=arguments.seeds,
            learning_rates=arguments.learning_rate,
            workers=arguments.workers,
            epochs=arguments.epochs,
            **model,
        )
        print(f"{name}, weights of monpa 0.3.3 (CC BY-NC-SA 4.0)")
        show_answers(report)
        print(report)


if __name__ == "__main__":
    run(main)
