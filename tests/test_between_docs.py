"""Every block of code of the page on the space between shared and unshared runs, in both languages."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
pytestmark = pytest.mark.once


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_code_of_the_page_runs(capsys):
    names = {}
    for block in blocks("between.md"):
        exec(compile(block, "between.md", "exec"), names)
    assert "% of the answers are the same" in capsys.readouterr().out
    assert len(names["fewer"].config.sharing.attention) == 4


def test_both_languages_show_the_same_code():
    assert blocks("between.md") == blocks("between_zh.md")


def test_the_pictures_are_there():
    for page in ("between.md", "between_zh.md"):
        for picture in re.findall(r"!\[.*?\]\((.*?)\)", (DOCS / page).read_text(encoding="utf-8")):
            assert (DOCS / picture).is_file(), picture
