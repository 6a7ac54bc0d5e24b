"""Text in, text out (titles, summaries, replies) with ALBERT, with and without weight sharing.

    python examples/seq2seq.py train.tsv dev.tsv --model albert albert_unshared

Files have two columns, source and target, with a tab between them (or are JSON, see `Seq2Seq`), gzipped or not.
At the end it prints what was written for the first dev texts. Without --config: the embedded checkpoint.
"""

import argparse

from common import add_training_arguments, compare, fit_task, load_backbone  # isort: skip  (sets TensorFlow up)

from bert4albert.tasks import Seq2Seq


def train(arguments: argparse.Namespace, model: str) -> dict[str, list[float]]:
    """Fine-tune one model, and show a few of its answers."""
    trunk, tokenizer = load_backbone(arguments, model, application="unilm")
    writer = Seq2Seq(trunk, tokenizer, maxlen=arguments.maxlen, target_maxlen=arguments.target_maxlen)
    history, dev = fit_task(arguments, model, writer)
    sources = [writer.text_of(example) for example in dev[:5]]
    for source, answer in zip(sources, writer.predict(sources, num_beams=arguments.beams), strict=True):
        print(f"  {source[:60]!r} -> {answer!r}")
    return history


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_training_arguments(parser, maxlen=256)
    parser.add_argument("--target-maxlen", type=int, default=32, help="the most tokens of a target")
    parser.add_argument("--beams", type=int, default=4, help="for the texts printed at the end")
    compare(parser.parse_args(), "rouge_l", train)


if __name__ == "__main__":
    main()
