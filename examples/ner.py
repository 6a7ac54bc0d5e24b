"""Named entities, or words, with ALBERT, with and without weight sharing.

    python examples/ner.py train.txt dev.txt --method crf --model albert albert_unshared

Files have a character and its tag (BIO, BIOES or BMES) a line and a blank line after each sentence, gzipped or not.
Keras prints seconds, loss, precision, recall and F1 of whole entities after every epoch; at the end the tagger has the
weights of the best one, and shows what it finds in a few sentences. Without --config: the embedded checkpoint.
"""

import argparse

from common import add_training_arguments, compare, fit_task, load_backbone  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import Tagger


def train(arguments: argparse.Namespace, model: str) -> dict[str, list[float]]:
    """Fine-tune one model, and show a few of its answers."""
    trunk, tokenizer = load_backbone(arguments, model)
    tagger = Tagger(trunk, tokenizer, method=arguments.method, scheme=arguments.scheme, maxlen=arguments.maxlen)
    history, dev = fit_task(arguments, model, tagger)
    texts = [tagger.text_of(example) for example in dev[:3]]
    for text, entities in zip(texts, tagger.predict(texts), strict=True):
        found = (f"  {entity.text} ({entity.label}, {entity.start}-{entity.end})" for entity in entities)
        print(text, *found, sep="\n")
    return history


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_training_arguments(parser, learning_rate=2e-4)
    parser.add_argument("--method", default="crf", help="softmax, crf, global_pointer or efficient_global_pointer")
    parser.add_argument("--scheme", default="BIO", help="BIO or BIOES, the tags that softmax and crf use inside")
    compare(parser.parse_args(), "f1", train)


if __name__ == "__main__":
    main()
