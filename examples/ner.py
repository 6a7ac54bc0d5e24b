"""Named entities, or words, with ALBERT, and how much of its weight sharing to keep.

    python examples/ner.py train.txt dev.txt --method crf --points shared unshared groups:2

Files have a character and its tag (BIO, BIOES or BMES) a line and a blank line after each sentence, gzipped or not; F1
is that of whole entities. Without --config: the embedded checkpoint.
"""

import argparse

from common import add_training_arguments, compare_points  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import Tagger


def main() -> None:
    """Compare the points asked for, and print some answers, a table and what it says in words."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_training_arguments(parser, learning_rate=2e-4)
    parser.add_argument("--method", default="crf", help="softmax, crf, global_pointer or efficient_global_pointer")
    parser.add_argument("--scheme", default="BIO", help="BIO or BIOES, the tags that softmax and crf use inside")
    arguments = parser.parse_args()
    settings = {"method": arguments.method, "scheme": arguments.scheme, "maxlen": arguments.maxlen}
    compare_points(arguments, Tagger, "encoder", **settings)


if __name__ == "__main__":
    main()
