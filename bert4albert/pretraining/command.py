"""The commands `build-vocab` and `pretrain`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from bert4albert.command_line import CommandParser, require_folder, run_command, start_keras
from bert4albert.pretraining.recipe import CHOICES

_RECIPE_HELP = {
    "length": "tokens in a row",
    "batch_size": "rows in a batch",
    "accumulate": "batches whose gradients make one step",
    "steps": "optimizer updates; may change when a run is continued",
    "learning_rate": "the peak rate",
    "warmup": "the share of the steps in which the rate rises",
    "optimizer": "how gradients become steps",
    "weight_decay": "decoupled weight decay, none on biases and norms",
    "clip_norm": "largest norm of all gradients together",
    "short_rate": "share of segments filled to a random shorter length",
    "masked_rate": "share of tokens to hide",
    "dtype": "what is computed in",
    "word_embeddings": "how they begin: random, or counted from the words' neighbours in the corpus",
    "passages": "passages of the teacher in a batch, beside its rows",
    "vector_weight": "how much the teacher counts in the loss",
    "temperature": "what the cosines within a batch are divided by, when passages are compared",
    "seed": "decides initial weights, order and masks",
}


def add_parser(subparsers: Any) -> None:
    """Register `build-vocab` and `pretrain` with the subparsers of a command line."""
    vocab = subparsers.add_parser("build-vocab", help="build a vocabulary for Chinese text from a corpus")
    _add_corpus(vocab)
    vocab.add_argument("--out", required=True, help="the vocab.txt to write")
    vocab.add_argument("--size", type=int, default=8000, help="number of tokens")
    vocab.add_argument("--minimum-count", type=int, default=10, help="how often a character must occur")
    vocab.set_defaults(run=_build_vocabulary)

    parser = subparsers.add_parser(
        "pretrain", help="pretrain a model on a corpus, or go on with a run that was interrupted"
    )
    _add_corpus(parser)
    parser.add_argument("--valid", nargs="+", help="text files of held-out documents")
    parser.add_argument("--vocab", required=True, help="the vocabulary, vocab.txt")
    parser.add_argument("--config", required=True, help="the model's config.json")
    parser.add_argument("--out", required=True, help="folder of the run: shards, state, log, and in the end the model")
    parser.add_argument("--checkpoint", help="weights to begin with instead of random ones, all heads included")
    parser.add_argument(
        "--teacher-vectors",
        metavar="FILE",
        help="a NumPy file (.npy), floats [passages, size]: what another model says of each passage",
    )
    parser.add_argument(
        "--teacher-texts",
        nargs="+",
        metavar="FILE",
        help="text files, one passage a line (by default the corpus)",
    )
    parser.add_argument(
        "--model",
        choices=["albert", "albert_unshared", "bert"],
        help="default: what the config says, and its sharing",
    )
    parser.add_argument("--sharing", type=int, nargs="+", help="the block used at each depth, such as 0 0 1 1")
    for name, (kind, default) in _recipe_fields().items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=kind, default=default, choices=CHOICES.get(name), help=_RECIPE_HELP[name])
    parser.add_argument("--remat", action="store_true", help="less memory for more time")
    parser.add_argument("--save-every", type=int, default=200, help="steps between saved states")
    parser.add_argument("--log-every", type=int, default=20, help="steps between lines of log.csv")
    parser.add_argument("--half", action="store_true", help="store the model in float16")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files too")
    parser.add_argument("--workers", type=int, help="processes that tokenise; default: one a core")
    parser.set_defaults(run=_pretrain)


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands of this package alone; the return value is the exit status."""
    parser = CommandParser(prog="python -m bert4albert.pretraining", description=__doc__)
    add_parser(parser.add_subparsers(required=True, metavar="command"))
    parsed = parser.parse_args(arguments)
    return run_command("bert4albert", lambda: parsed.run(parsed))


def _add_corpus(parser: Any) -> None:
    parser.add_argument(
        "--corpus",
        nargs="+",
        required=True,
        help="text files, plain, .gz or .xz: one sentence a line, a blank line between documents",
    )
    parser.add_argument("--cased", action="store_true", help="keep upper case and accents")


def _recipe_fields() -> dict[str, tuple[type, Any]]:
    from bert4albert.pretraining.recipe import Recipe

    fields = dataclasses.fields(Recipe)
    return {field.name: (type(field.default), field.default) for field in fields if field.name != "remat"}


def _build_vocabulary(args: argparse.Namespace) -> int:
    from bert4albert.files import write_atomically
    from bert4albert.pretraining.vocabulary_building import build_vocabulary

    tokens = build_vocabulary(args.corpus, args.size, args.minimum_count, not args.cased)
    write_atomically(Path(args.out), lambda file: file.write("".join(f"{token}\n" for token in tokens).encode()))
    print(f"Wrote {len(tokens):,} tokens to {args.out}.")
    return 0


def _pretrain(args: argparse.Namespace) -> int:
    require_folder(args.out, "--out")
    start_keras()
    from bert4albert.pretraining.recipe import Recipe
    from bert4albert.pretraining.training import pretrain

    recipe = Recipe(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Recipe)})
    pretrain(
        args.corpus,
        args.vocab,
        args.config,
        args.out,
        recipe,
        checkpoint=args.checkpoint,
        valid=args.valid,
        teacher_vectors=args.teacher_vectors,
        teacher_texts=args.teacher_texts,
        model=args.model,
        sharing=args.sharing,
        do_lower_case=not args.cased,
        save_every=args.save_every,
        log_every=args.log_every,
        tensorboard=args.tensorboard,
        half=args.half,
        workers=args.workers,
    )
    print(f"The model is in {Path(args.out) / 'model'}, its curves in {Path(args.out) / 'curves.png'}.")
    return 0
