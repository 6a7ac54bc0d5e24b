"""Answers to questions, written from one or several passages, with ALBERT, with and without weight sharing.

    python examples/reading_comprehension.py train.json dev.json --model albert albert_unshared

Files hold a JSON list of {"id", "question", "passages": [{"passage", "answer"}]} (WebQA, CMRC 2018), gzipped or not;
an empty answer where a passage has none. Keras prints seconds and loss, then accuracy, F1 and their mean ("score") of
every epoch. Without --config: the embedded checkpoint.
"""

import argparse
import time
from pathlib import Path

from common import add_model_arguments, load_backbone  # isort: skip  (sets TensorFlow up before it is imported)

from bert4albert.tasks import ReadingComprehension


def train(arguments: argparse.Namespace, model: str) -> dict[str, float]:
    """Fine-tune one model; return its scores and seconds."""
    trunk, tokenizer = load_backbone(arguments, model, application="unilm")
    reader = ReadingComprehension(
        trunk,
        tokenizer,
        maxlen=arguments.maxlen,
        question_maxlen=arguments.question_maxlen,
        target_maxlen=arguments.answer_maxlen,
        extractive=not arguments.free,
    )
    examples, dev = (reader.read(path)[: arguments.limit] for path in (arguments.train, arguments.dev))
    print(f"{model}: {trunk.count_params():,} parameters, {len(examples)} training questions", flush=True)
    started = time.perf_counter()
    history = reader.fit(
        examples,
        dev,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        jit_compile=arguments.jit or "auto",
        verbose=2,
    )
    seconds = (time.perf_counter() - started) / arguments.epochs
    if arguments.save:
        reader.save(arguments.save / model)
    for example, answer in zip(dev[:5], reader.predict(dev[:5], num_beams=arguments.beams), strict=True):
        print(f"  {example['question']} -> {answer!r}")
    return {"first": history["score"][0], "best": max(history["score"]), "seconds": seconds}


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, help="JSON list of questions with passages and answers")
    parser.add_argument("dev", type=Path, help="the same, to validate on")
    add_model_arguments(parser)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--maxlen", type=int, default=256, help="the most tokens of a passage")
    parser.add_argument("--question-maxlen", type=int, default=64, help="the most tokens of a question")
    parser.add_argument("--answer-maxlen", type=int, default=32, help="the most tokens of an answer")
    parser.add_argument("--free", action="store_true", help="let answers differ from what the passages say")
    parser.add_argument("--beams", type=int, default=1, help="for the answers printed at the end")
    parser.add_argument("--limit", type=int, help="use only so many questions of each file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="a folder for the trained models")
    parser.add_argument("--jit", action="store_true", help="compile with XLA: pays from about a thousand texts on")
    arguments = parser.parse_args()
    results = {model: train(arguments, model) for model in arguments.model}
    print(f"\n{'model':16} {'epoch 1':>8} {'best dev':>9} {'s/epoch':>8}   (accuracy + F1) / 2")
    for model, result in results.items():
        print(f"{model:16} {result['first']:8.4f} {result['best']:9.4f} {result['seconds']:8.1f}")


if __name__ == "__main__":
    main()
