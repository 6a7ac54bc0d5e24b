"""Relation triples (subject, predicate, object) with ALBERT, and how much of its weight sharing to keep.

    python examples/relation_extraction.py train.json dev.json --method casrel --points shared unshared groups:2

Files hold JSON lines with "text" and "spo_list", a list of "subject", "predicate", "object" (as DuIE), gzipped or not;
F1 is that of whole triples. Without --config: the embedded checkpoint.
"""

from common import add_training_arguments, compare_points, make_parser, run  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import RelationExtractor


def main() -> None:
    """Compare the points asked for, and print some answers, a table and what it says in words."""
    parser = make_parser(__doc__)
    add_training_arguments(parser, learning_rate=2e-4)
    parser.add_argument("--method", choices=["casrel", "gplinker"], default="casrel", help="how triples are found")
    arguments = parser.parse_args()
    compare_points(arguments, RelationExtractor, "encoder", method=arguments.method, maxlen=arguments.maxlen)


if __name__ == "__main__":
    run(main)
