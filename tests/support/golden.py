"""Where the outputs of the original programs lie: some beside the tests, all in the folder shared with the project."""

from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SHARED = Path(__file__).resolve().parents[3] / "shared"

GOOGLE_FOLDERS = {
    "google_albert": ("albert_config.json", "model.ckpt-best"),
    "google_albert_groups": ("albert_config.json", "model.ckpt-best"),
    "google_albert_inner": ("albert_config.json", "model.ckpt-best"),
    "google_bert": ("bert_config.json", "bert_model.ckpt"),
}
