"""Relation triples (subject, predicate, object) with ALBERT, with and without weight sharing.

    python examples/relation_extraction.py train.json dev.json --method casrel --model albert albert_unshared

Files hold JSON lines with "text" and "spo_list", a list of "subject", "predicate", "object" (as DuIE), gzipped or not.
Keras prints seconds, loss, precision, recall and F1 of whole triples after every epoch; at the end the extractor has
the weights of the best one, and shows what it finds in a few texts. Without --config: the embedded checkpoint.
"""

import argparse

from common import add_training_arguments, compare, fit_task, load_backbone  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import RelationExtractor


def train(arguments: argparse.Namespace, model: str) -> dict[str, list[float]]:
    """Fine-tune one model, and show a few of its answers."""
    trunk, tokenizer = load_backbone(arguments, model)
    extractor = RelationExtractor(trunk, tokenizer, method=arguments.method, maxlen=arguments.maxlen)
    history, dev = fit_task(arguments, model, extractor)
    texts = [extractor.text_of(example) for example in dev[:3]]
    for text, relations in zip(texts, extractor.predict(texts), strict=True):
        print(text, *(f"  {' | '.join(relation[:3])}" for relation in relations), sep="\n")
    return history


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_training_arguments(parser, learning_rate=2e-4)
    parser.add_argument("--method", default="casrel", help="casrel or gplinker")
    compare(parser.parse_args(), "f1", train)


if __name__ == "__main__":
    main()
