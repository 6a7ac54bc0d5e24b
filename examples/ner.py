"""Named entities, or words, with ALBERT, and how much of its weight sharing to keep.

    python examples/ner.py train.txt dev.txt --method crf --points shared unshared groups:2

Files have a character and its tag (BIO, BIOES or BMES) a line and a blank line after each sentence, gzipped or not; F1
is that of whole entities. Without --config: the embedded checkpoint.
"""

from common import add_training_arguments, compare_points, make_parser, run  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import Tagger
from bert4albert.tasks.tagging_methods import METHODS


def main() -> None:
    """Compare the points asked for, and print some answers, a table and what it says in words."""
    parser = make_parser(__doc__)
    add_training_arguments(parser, learning_rate=2e-4)
    parser.add_argument("--method", choices=METHODS, default="crf", help="how spans are found")
    parser.add_argument(
        "--scheme", choices=["BIO", "BIOES"], default="BIO", help="the tags that softmax and crf use inside"
    )
    arguments = parser.parse_args()
    settings = {"method": arguments.method, "scheme": arguments.scheme, "maxlen": arguments.maxlen}
    compare_points(arguments, Tagger, "encoder", **settings)


if __name__ == "__main__":
    run(main)
