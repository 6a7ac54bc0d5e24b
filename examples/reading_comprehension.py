"""Answers to questions, written from passages, with ALBERT, and how much of its weight sharing to keep.

    python examples/reading_comprehension.py train.json dev.json --points shared unshared groups:2

Files hold a JSON list of {"id", "question", "passages": [{"passage", "answer"}]} (WebQA, CMRC 2018), gzipped or not;
an empty answer where a passage has none. The metric ("score") is the mean of accuracy and F1 of characters. Without
--config: the embedded checkpoint.
"""

from common import add_training_arguments, compare_points, make_parser, run  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import ReadingComprehension


def main() -> None:
    """Compare the points asked for, and print some answers, a table and what it says in words."""
    parser = make_parser(__doc__)
    add_training_arguments(parser, maxlen=256)
    parser.add_argument("--question-maxlen", type=int, default=64, help="the most tokens of a question")
    parser.add_argument("--answer-maxlen", type=int, default=32, help="the most tokens of an answer")
    parser.add_argument("--free", action="store_true", help="let answers differ from what the passages say")
    arguments = parser.parse_args()
    settings = {
        "maxlen": arguments.maxlen,
        "question_maxlen": arguments.question_maxlen,
        "target_maxlen": arguments.answer_maxlen,
        "extractive": not arguments.free,
    }
    compare_points(arguments, ReadingComprehension, "unilm", **settings)


if __name__ == "__main__":
    run(main)
