"""Text in, text out (titles, summaries, replies) with ALBERT, with and without weight sharing.

    python examples/seq2seq.py train.tsv dev.tsv --model albert albert_unshared

Files have two columns, source and target, with a tab between them (or are JSON, see `Seq2Seq`), gzipped or not.
At the end it prints what was written for the first dev texts. Without --config: the embedded checkpoint.
"""

import argparse
import time
from pathlib import Path

from common import add_model_arguments, load_backbone  # isort: skip  (sets TensorFlow up before it is imported)

from bert4albert.tasks import Seq2Seq


def train(arguments: argparse.Namespace, model: str) -> dict[str, float]:
    """Fine-tune one model; return its ROUGE-L and seconds."""
    trunk, tokenizer = load_backbone(arguments, model, application="unilm")
    writer = Seq2Seq(trunk, tokenizer, maxlen=arguments.maxlen, target_maxlen=arguments.target_maxlen)
    examples, dev = (writer.read(path)[: arguments.limit] for path in (arguments.train, arguments.dev))
    print(f"{model}: {trunk.count_params():,} parameters, {len(examples)} training texts", flush=True)
    started = time.perf_counter()
    history = writer.fit(
        examples,
        dev,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        jit_compile=arguments.jit or "auto",
        verbose=2,
    )
    seconds = (time.perf_counter() - started) / arguments.epochs
    if arguments.save:
        writer.save(arguments.save / model)
    sources = [writer.text_of(example) for example in dev[:5]]
    for source, answer in zip(sources, writer.predict(sources, num_beams=arguments.beams), strict=True):
        print(f"  {source[:60]!r} -> {answer!r}")
    return {"first": history["rouge_l"][0], "best": max(history["rouge_l"]), "seconds": seconds}


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, help="two columns: source, target")
    parser.add_argument("dev", type=Path, help="the same, to validate on")
    add_model_arguments(parser)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--maxlen", type=int, default=256, help="the most tokens of a source")
    parser.add_argument("--target-maxlen", type=int, default=32, help="the most tokens of a target")
    parser.add_argument("--beams", type=int, default=4, help="for the texts printed at the end")
    parser.add_argument("--limit", type=int, help="use only so many examples of each file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="a folder for the trained models")
    parser.add_argument("--jit", action="store_true", help="compile with XLA: pays from about a thousand texts on")
    arguments = parser.parse_args()
    results = {model: train(arguments, model) for model in arguments.model}
    print(f"\n{'model':16} {'epoch 1':>8} {'best dev':>9} {'s/epoch':>8}   ROUGE-L")
    for model, result in results.items():
        print(f"{model:16} {result['first']:8.4f} {result['best']:9.4f} {result['seconds']:8.1f}")


if __name__ == "__main__":
    main()
