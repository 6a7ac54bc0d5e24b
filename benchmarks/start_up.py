"""From the start of a process to its first answer, and a text of 20 tokens against transformers, in one run.

    python benchmarks/start_up.py [--size tiny|base] [--starts 7] [--rounds 200]

An untrained classifier is exported as ONNX and saved for transformers, so that both compute the same. Processes are
started anew for each start and take turns; answers take turns too. Printed are medians and ranges. The bars: a start
under 1.5 seconds, and an answer sooner than that of transformers' eager PyTorch.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bert4albert.command_line import CommandParser, start_keras

start_keras()

from bert4albert import Tokenizer, build_model, save_hf, serving
from bert4albert.tasks import TextClassifier

TEXT = "房间很干净，早餐也很好，下次还来住。"  # 18 characters, 20 tokens with [CLS] and [SEP]
SIZES = {
    "tiny": {},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
STARTS = {
    "serving.load (ONNX)": "from bert4albert.serving import load; load(sys.argv[1]).predict([sys.argv[2]])",
    "transformers, eager": (
        "from transformers import pipeline; pipeline('text-classification', sys.argv[1])(sys.argv[2])"
    ),
}


def start(code: str, folder: Path) -> float:
    """Return the seconds from the start of a process to its end, right after its first answer."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import sys; {code}", folder, TEXT], check=True, capture_output=True)
    return time.perf_counter() - began


def told(name: str, seconds: list[float], unit: str = "s", scale: float = 1) -> None:
    low, middle, high = (scale * f(seconds) for f in (min, statistics.median, max))
    print(f"  {name:22} {middle:7.2f} {unit} (from {low:.2f} to {high:.2f})", flush=True)


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="tiny", help="of the model")
    parser.add_argument("--starts", type=int, default=7, help="processes of each kind")
    parser.add_argument("--rounds", type=int, default=200, help="answers of each kind")
    arguments = parser.parse_args()
    import torch
    import transformers

    tokenizer = Tokenizer("albert_tiny_zh")
    config = build_model("albert_tiny_zh").config.to_dict() | {"sharing": "shared"} | SIZES[arguments.size]
    trunk = build_model(config, with_pool=True)
    task = TextClassifier(trunk, tokenizer, ["bad", "good"], pooling="pooler", maxlen=64)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / "exported", Path(scratch) / "transformers"]
        task.export(folders[0], min_agreement=0.9)
        save_hf(task, folders[1])
        print("from the start of a process to its first answer:")
        seconds = {name: [] for name in STARTS}
        for _ in range(arguments.starts):
            for (name, code), folder in zip(STARTS.items(), folders, strict=True):
                seconds[name].append(start(code, folder))
        for name, of_name in seconds.items():
            told(name, of_name)
        served = serving.load(folders[0])
        theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folders[1]).eval()
        words = transformers.AutoTokenizer.from_pretrained(folders[1])

        @torch.inference_mode()
        def eager() -> None:
            theirs(**words(TEXT, return_tensors="pt")).logits.argmax()

        asked = {"serving.load (ONNX)": lambda: served.predict([TEXT]), "transformers, eager": eager}
        seconds = {name: [] for name in asked}
        for round_ in range(arguments.rounds + 5):
            for name, ask in asked.items():
                began = time.perf_counter()
                ask()
                if round_ >= 5:  # the first ones warm up
                    seconds[name].append(time.perf_counter() - began)
        print(f"one text of {len(words(TEXT)['input_ids'])} tokens:")
        for name, of_name in seconds.items():
            told(name, of_name, "ms", 1000)


if __name__ == "__main__":
    main()
