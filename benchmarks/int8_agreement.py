"""How many answers stay the same when an export holds its matrices in int8: a classifier and a CRF tagger.

    python benchmarks/int8_agreement.py --data ../shared/data

Fine-tunes the checkpoint of the package on reviews and on named entities, exports both as ONNX in float32 and in int8,
and compares the answers on held-out texts: those of whole texts, and for the tagger also those of single characters.
The bar is 0.99 on 500 reviews.
"""

import tempfile
from pathlib import Path

from bert4albert.command_line import CommandParser, start_keras

start_keras()

from bert4albert import Tokenizer, build_model, serving
from bert4albert.tasks import Tagger, Task, TextClassifier

MODEL = "albert_tiny_zh"
TASKS = {
    "classification": (TextClassifier, "sentiment/sentiment.{}.data.gz", {"pooling": "mean"}, "valid"),
    "tagging": (Tagger, "ner/{}.txt.gz", {"method": "crf"}, "dev"),
}


def spread(examples: list, count: int) -> list:
    """Return so many examples from all over the file, which may be sorted."""
    return examples[:: max(len(examples) // count, 1)][:count]


def tags(text: str, answer: object) -> list:
    """Return what each character is, or the answer alone where it is one of the whole text."""
    if not isinstance(answer, list):
        return [answer]
    found = ["O"] * len(text)
    for start, end, label, _ in answer:
        found[start:end] = [label] * (end - start)
    return found


def measure(task: Task, texts: list[str], folder: Path) -> None:
    answers, sizes = {}, {}
    for quantize in (None, "int8"):
        path = folder / str(quantize)
        task.export(path, quantize=quantize, texts=texts, min_agreement=0)
        answers[quantize] = serving.load(path).predict(texts)
        sizes[quantize] = (path / "model.onnx").stat().st_size
    pairs = list(zip(*answers.values(), strict=True))
    whole = sum(one == other for one, other in pairs) / len(pairs)
    single = [
        one == other
        for text, pair in zip(texts, pairs, strict=True)
        for one, other in zip(*(tags(text, answer) for answer in pair), strict=True)
    ]
    print(
        f"{type(task).__name__}: {whole:.4f} of {len(texts)} texts have the same answer, "
        f"{sum(single) / len(single):.4f} of what they are made of; {sizes['int8'] / sizes[None]:.2f} of the size\n",
        flush=True,
    )


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with sentiment and ner")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which to try")
    parser.add_argument("--train", type=int, default=2000, help="examples to train on")
    parser.add_argument("--texts", type=int, default=500, help="held-out texts to compare on")
    parser.add_argument("--epochs", type=int, default=3, help="times through the examples")
    arguments = parser.parse_args()
    for name in arguments.tasks:
        task_class, file, settings, held_out = TASKS[name]
        task = task_class(build_model(MODEL), Tokenizer(MODEL), maxlen=96, **settings)
        train = task.examples(arguments.data / file.format("train"))
        dev = spread(task.examples(arguments.data / file.format(held_out)), arguments.texts)
        task.learn(train)
        task.fit(spread(train, arguments.train), epochs=arguments.epochs, learning_rate=3e-4, verbose=0)
        print(f"{name}: {task.metric} {task.evaluate(dev)[task.metric]:.4f}")
        with tempfile.TemporaryDirectory() as folder:
            measure(task, [example.text for example in dev], Path(folder))


if __name__ == "__main__":
    main()
