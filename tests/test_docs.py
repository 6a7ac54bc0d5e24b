"""README and docs: every block of code runs, in order; both languages say the same; no link leads nowhere."""

import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from support.models import TINY

from bert4albert import Tokenizer, build_model, save_google_checkpoint, save_hf
from bert4albert.cli import main, make_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if not path.stem.endswith("_zh"))]
# They train; `develop.py slow` runs them.
LONG = ("between", "comparing", "README", "training")
CHARACTERS = "很安静，下次还住隔音太差床舒服好坏了便宜再也不买"
pytestmark = [pytest.mark.once, pytest.mark.eager]


def chinese(page):
    return page.with_name(f"{page.stem}_zh.md")


def blocks(page):
    """(language, code) of each block, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def prose(page):
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page):
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def prepare(folder):
    """Write what the pages take for granted: a checkpoint in Google's format, a folder of transformers, and data."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CHARACTERS)]
    model = build_model(TINY | {"max_position_embeddings": 512})
    save_google_checkpoint(model, folder / "model.ckpt-best")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    save_hf(model, folder / "folder", Tokenizer(tokens))
    rows = "很安静\tgood\n隔音太差\tbad\n床舒服\tgood\n太差了\tbad\n"
    for split in ("train", "valid", "test"):
        (folder / f"{split}.tsv").write_text(rows, encoding="utf-8")


def run_line(words):
    """Run a command of a page, or see that it could be run, where it would not end or needs the network."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    match words:
        case []:
            pass
        case ["bert4albert", "inspect" | "convert", *_]:
            assert main(words[1:]) == 0
        case ["bert4albert", *arguments]:
            make_parser().parse_args(arguments)
        case ["python" | "python3", script, *_]:
            assert (ROOT / script).is_file()
        case ["pip", "install", package]:
            extras = re.findall(r"\[(.*)\]", package)
            assert all(extra in project["optional-dependencies"] for names in extras for extra in names.split(","))
        case ["curl", *_]:
            pass
        case _:
            raise AssertionError(f"the test does not know what to do with {words}")


def run_page(page, names):
    for language, code in blocks(page):
        if language == "python":
            exec(compile(code, str(page), "exec"), names)
        else:
            for line in code.replace("\\\n", " ").splitlines():
                run_line(shlex.split(line, comments=True))


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page.stem in LONG), id=page.stem) for page in PAGES]
)
def test_every_block_runs_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    names = {}
    run_page(page, names)
    if page.stem == "between":
        assert len(names["fewer"].config.sharing.attention) == 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_code(page):
    for language, code in blocks(page):
        assert language in ("", "bash", "python")
        if language == "python":
            compile(code, str(page), "exec")


@pytest.mark.parametrize("page", [page for page in PAGES if chinese(page).exists()], ids=lambda page: page.stem)
def test_both_languages_hold_the_same(page):
    def without_comments(path):
        return [(language, re.sub(r" *#.*", "", code)) for language, code in blocks(path)]

    def shape(path):
        lines = prose(path).splitlines()
        return [line.split(" ")[0] for line in lines if line.startswith("#")], sum(line[:1] == "|" for line in lines)

    def targets(path):
        here = {page.name, chinese(page).name}
        return sorted(link.replace("_zh.md", ".md") for link in links(path) if os.path.basename(link) not in here)

    assert without_comments(page) == without_comments(chinese(page))
    assert shape(page) == shape(chinese(page))
    assert targets(page) == targets(chinese(page))


@pytest.mark.parametrize("page", sorted([ROOT / "README_zh.md", *PAGES, *(ROOT / "docs").glob("*_zh.md")]), ids=str)
def test_no_link_leads_nowhere(page):
    for link in links(page):
        assert link.startswith("https://") or (page.parent / link.partition("#")[0]).exists(), link
