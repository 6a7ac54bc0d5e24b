"""Answers to questions, written from one or several passages, with ALBERT, with and without weight sharing.

    python examples/reading_comprehension.py train.json dev.json --model albert albert_unshared

Files hold a JSON list of {"id", "question", "passages": [{"passage", "answer"}]} (WebQA, CMRC 2018), gzipped or not;
an empty answer where a passage has none. Keras prints seconds and loss, then accuracy, F1 and their mean ("score") of
every epoch. Without --config: the embedded checkpoint.
"""

import argparse

from common import add_training_arguments, compare, fit_task, load_backbone  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import ReadingComprehension


def train(arguments: argparse.Namespace, model: str) -> dict[str, list[float]]:
    """Fine-tune one model, and show a few of its answers."""
    trunk, tokenizer = load_backbone(arguments, model, application="unilm")
    reader = ReadingComprehension(
        trunk,
        tokenizer,
        maxlen=arguments.maxlen,
        question_maxlen=arguments.question_maxlen,
        target_maxlen=arguments.answer_maxlen,
        extractive=not arguments.free,
    )
    history, dev = fit_task(arguments, model, reader)
    for example, answer in zip(dev[:5], reader.predict(dev[:5], num_beams=arguments.beams), strict=True):
        print(f"  {example['question']} -> {answer!r}")
    return history


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_training_arguments(parser, maxlen=256)
    parser.add_argument("--question-maxlen", type=int, default=64, help="the most tokens of a question")
    parser.add_argument("--answer-maxlen", type=int, default=32, help="the most tokens of an answer")
    parser.add_argument("--free", action="store_true", help="let answers differ from what the passages say")
    parser.add_argument("--beams", type=int, default=1, help="for the answers printed at the end")
    compare(parser.parse_args(), "score", train)


if __name__ == "__main__":
    main()
