"""Long texts in 119 classes (CLUE's IFLYTEK) with ALBERT, with and without weight sharing, on a task of the library.

    python examples/iflytek.py train.json dev.json --model albert albert_unshared

Files hold JSON lines with "sentence" and "label", gzipped or not. Keras prints seconds, loss and accuracy of every
epoch; at the end the classifier has the weights of the best one. Without --config: the embedded checkpoint.
"""

import argparse

from common import add_training_arguments, compare, fit_task, load_backbone  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import TextClassifier


def train(arguments: argparse.Namespace, model: str) -> dict[str, list[float]]:
    """Fine-tune one model, and show a few of its answers."""
    trunk, tokenizer = load_backbone(arguments, model)
    classifier = TextClassifier(trunk, tokenizer, maxlen=arguments.maxlen)
    history, dev = fit_task(arguments, model, classifier)
    texts = [classifier.text_of(example) for example in dev[:3]]
    for text, label in zip(texts, classifier.predict(texts), strict=True):
        print(f"  {text[:60]!r} -> {label}")
    return history


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_training_arguments(parser)
    compare(parser.parse_args(), "accuracy", train)


if __name__ == "__main__":
    main()
