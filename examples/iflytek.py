"""Long texts in 119 classes (CLUE's IFLYTEK) with ALBERT, and how much of its weight sharing to keep.

    python examples/iflytek.py train.json dev.json --points shared unshared groups:2

Files hold JSON lines with "sentence" and "label", gzipped or not. Without --config: the embedded checkpoint.
"""

from common import add_training_arguments, compare_points, make_parser, run  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import TextClassifier


def main() -> None:
    """Compare the points asked for, and print some answers, a table and what it says in words."""
    parser = make_parser(__doc__)
    add_training_arguments(parser)
    parser.add_argument("--pooling", choices=["cls", "mean"], default="mean", help="what the classifier sees")
    arguments = parser.parse_args()
    compare_points(arguments, TextClassifier, "encoder", maxlen=arguments.maxlen, pooling=arguments.pooling)


if __name__ == "__main__":
    run(main)
