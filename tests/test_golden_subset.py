"""A clone without anything beside it still proves exactness: some golden files are part of the repository."""

import json

import numpy as np
import pytest
from support.golden import GOLDEN, SHARED

from bert4albert import Tokenizer

pytestmark = pytest.mark.once


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*")) <= 2_000_000


def test_ids_are_those_of_google_and_bert4keras():
    tokenizer = Tokenizer(GOLDEN / "tokenization" / "vocab_zh.txt")
    golden = json.loads((GOLDEN / "tokenization" / "cases.json").read_text(encoding="utf-8"))
    assert len(golden["cases"]) == 60
    for case in golden["cases"]:
        assert tokenizer.encode(case["text"])[0] == case["bert4keras_ids"], case["text"]


def test_the_files_are_those_that_the_originals_wrote(shared):
    for path in GOLDEN.rglob("*"):
        original = shared / "golden" / path.relative_to(GOLDEN)
        if path.suffix == ".npz":
            with np.load(path) as ours, np.load(original) as theirs:
                assert {*ours} == {*theirs}
                assert all((ours[key] == theirs[key]).all() for key in ours)
        elif path.is_file() and path.name not in ("make.py", "cases.json") and "__pycache__" not in path.parts:
            assert path.read_bytes() == original.read_bytes()
    assert shared == SHARED
