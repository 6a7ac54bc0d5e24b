"""How many new tokens a second `generate` makes, with cached keys and values and without.

    python benchmarks/decoding.py [--size tiny|base] [--beams 1 4] [--runs 3]

A UniLM model with random weights continues sources of 256 tokens by 32 new ones, no end token. The two
ways, and a Hugging Face BERT decoder of the same size with its own cache where `transformers` is installed
(the prompt counts as its source), take turns, so that a noisy machine is noisy for all. Without a cache
every step computes source and new tokens anew, the logits of the last position only. A way that is too slow
to run through (base without a cache) is timed on a few steps and scaled.
"""

import argparse
import statistics
import time

import keras
import numpy as np

from bert4albert import build_model
from bert4albert.generation import generate

SOURCE_LENGTH, NEW_TOKENS = 256, 32
SIZES = {
    "tiny": {"vocab_size": 21128, "hidden_size": 312, "num_hidden_layers": 4, "intermediate_size": 1248},
    "base": {"vocab_size": 30000, "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072},
}
SOURCES = {"tiny": 32, "base": 4}
UNCACHED_STEPS = {"tiny": NEW_TOKENS, "base": 4}


def sources_of(size):
    random = np.random.default_rng(0)
    return random.integers(5, SIZES[size]["vocab_size"], (SOURCES[size], SOURCE_LENGTH)).tolist()


def ours(size, uncached_steps):
    """Return two functions (sources, beams) -> seconds for `NEW_TOKENS` tokens: cached and not."""
    shape = {"embedding_size": 128, "num_attention_heads": 12, "max_position_embeddings": 512}
    model = build_model({**SIZES[size], **shape}, model="albert", application="unilm")

    def cached(sources, beams):
        return seconds(lambda: generate(model, sources, NEW_TOKENS, num_beams=beams))

    def uncached(sources, beams):
        steps = uncached_steps
        # The first step has one beam a source: it is timed alone, since the others are what scales.
        first = seconds(lambda: generate(model, sources, 1, num_beams=beams, use_cache=False))
        if steps == 1:
            return first * NEW_TOKENS
        rest = seconds(lambda: generate(model, sources, steps, num_beams=beams, use_cache=False)) - first
        return first + rest * (NEW_TOKENS - 1) / (steps - 1)

    return {"cached": cached, "without cache": uncached}


def hugging_face(size):
    """Return a function (sources, beams) -> seconds of a BERT decoder, or None without transformers."""
    try:
        import torch
        import transformers
    except ImportError:
        return None
    shape = {"num_attention_heads": 12, "is_decoder": True, "max_position_embeddings": 512}
    config = transformers.BertConfig(**SIZES[size], **shape)
    model = transformers.BertLMHeadModel(config).eval()

    def run(sources, beams):
        ids = torch.tensor(sources)
        options = {"min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS, "num_beams": beams, "pad_token_id": 0}
        return seconds(lambda: model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **options))

    return run


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--uncached-steps", type=int, help="time so many steps without a cache, and scale")
    arguments = parser.parse_args()
    size = arguments.size
    sources = sources_of(size)
    ways = ours(size, arguments.uncached_steps or UNCACHED_STEPS[size])
    peer = hugging_face(size)
    if peer is not None:
        ways["transformers, cached"] = peer
    print(f"{size}: {len(sources)} sources of {SOURCE_LENGTH} tokens, {NEW_TOKENS} new, {keras.backend.backend()}")
    for beams in arguments.beams:
        for way in ways.values():
            way(sources, beams)  # compiles
        times = {name: [] for name in ways}
        for _ in range(arguments.runs):
            for name, way in ways.items():
                times[name].append(way(sources, beams))
        for name, runs in times.items():
            speeds = [len(sources) * NEW_TOKENS / run for run in runs]
            print(f"  beams {beams}, {name:22} {spread(speeds)} tokens/s")
        ratios = [slow / fast for slow, fast in zip(times["without cache"], times["cached"], strict=True)]
        print(f"  beams {beams}, {'cached : without':22} {spread(ratios)}")


def spread(values):
    return f"{statistics.median(values):8.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
