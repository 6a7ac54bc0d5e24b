"""Text in, text out (titles, summaries, replies) with ALBERT, and how much of its weight sharing to keep.

    python examples/seq2seq.py train.tsv dev.tsv --points shared unshared groups:2

Files have two columns, source and target, with a tab between them (or are JSON, see `Seq2Seq`), gzipped or not. The
metric is ROUGE-L. Without --config: the embedded checkpoint.
"""

from common import add_training_arguments, compare_points, make_parser, run  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import Seq2Seq


def main() -> None:
    """Compare the points asked for, and print some answers, a table and what it says in words."""
    parser = make_parser(__doc__)
    add_training_arguments(parser, maxlen=256)
    parser.add_argument("--target-maxlen", type=int, default=32, help="the most tokens of a target")
    arguments = parser.parse_args()
    settings = {"maxlen": arguments.maxlen, "target_maxlen": arguments.target_maxlen}
    compare_points(arguments, Seq2Seq, "unilm", **settings)


if __name__ == "__main__":
    run(main)
