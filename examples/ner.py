"""Named entities, or words, with ALBERT, with and without weight sharing.

    python examples/ner.py train.txt dev.txt --method crf --model albert albert_unshared

Files have a character and its tag (BIO, BIOES or BMES) a line and a blank line after each sentence, gzipped or not.
Keras prints seconds, loss, precision, recall and F1 of whole entities after every epoch; at the end the tagger has the
weights of the best one, and shows what it finds in a few sentences. Without --config: the embedded checkpoint.
"""

import argparse
import random
import time
from pathlib import Path

from common import add_model_arguments, load_backbone  # isort: skip  (sets TensorFlow up before it is imported)

from bert4albert.tasks import Tagger


def train(arguments: argparse.Namespace, model: str) -> dict[str, float]:
    """Fine-tune one model; return its F1 and seconds."""
    trunk, tokenizer = load_backbone(arguments, model)
    tagger = Tagger(trunk, tokenizer, method=arguments.method, scheme=arguments.scheme, maxlen=arguments.maxlen)
    examples, dev = tagger.read(arguments.train), tagger.read(arguments.dev)
    # All labels, also those that a part of the examples lacks.
    tagger.learn(examples)
    if arguments.limit:
        examples = random.Random(arguments.seed).sample(examples, arguments.limit)
    print(f"{model}: {trunk.count_params():,} parameters, {len(examples)} training sentences", flush=True)
    started = time.perf_counter()
    history = tagger.fit(
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
    texts = [text for text, _ in dev[:3]]
    for text, entities in zip(texts, tagger.predict(texts), strict=True):
        print(
            text, *(f"  {entity.text} ({entity.label}, {entity.start}-{entity.end})" for entity in entities), sep="\n"
        )
    if arguments.save:
        tagger.save(arguments.save / model)
    return {"first": history["f1"][0], "best": max(history["f1"]), "seconds": seconds}


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, help="a character and its tag a line")
    parser.add_argument("dev", type=Path, help="the same, to validate on")
    add_model_arguments(parser)
    parser.add_argument("--method", default="crf", help="softmax, crf, global_pointer or efficient_global_pointer")
    parser.add_argument("--scheme", default="BIO", help="BIO or BIOES, the tags that softmax and crf use inside")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--maxlen", type=int, default=128, help="the most tokens that are read at once")
    parser.add_argument("--limit", type=int, help="train on so many sentences only, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="a folder for the trained taggers")
    parser.add_argument("--jit", action="store_true", help="compile with XLA: pays from about a thousand texts on")
    arguments = parser.parse_args()
    results = {model: train(arguments, model) for model in arguments.model}
    print(f"\n{'model':16} {'epoch 1':>8} {'best F1':>8} {'s/epoch':>8}")
    for model, result in results.items():
        print(f"{model:16} {result['first']:8.4f} {result['best']:8.4f} {result['seconds']:8.1f}")


if __name__ == "__main__":
    main()
