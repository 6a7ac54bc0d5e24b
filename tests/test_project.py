"""The project as a whole: what is packed, and what develop.py says where it cannot run."""

import ast
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.once


def files_in(folder):
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in paths if "__pycache__" not in path.parts}


def test_the_source_package_holds_all_that_tests_examples_and_readers_need(tmp_path):
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "compared*")
    shutil.copytree(ROOT, tmp_path / "project", ignore=unwanted)
    build = "from setuptools.build_meta import build_sdist; build_sdist('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path / "project", check=True, capture_output=True)
    (archive,) = (tmp_path / "project" / "dist").iterdir()
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    wanted = {"develop.py", "pyproject.toml", "setup.py", "LICENSE", "README.md", "README_zh.md"}
    for folder in ("bert4albert", "tests", "examples", "benchmarks", "docs"):
        wanted |= files_in(folder)
    assert wanted - names == set()


def test_the_package_says_where_to_read_on():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["urls"]
    assert all(url.startswith("https://") for url in project["urls"].values())


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 10, 1), (3, 14, 0)])
def test_develop_says_its_word_on_any_python_3(monkeypatch, version):
    source = (ROOT / "develop.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    monkeypatch.setattr(sys, "version_info", (*version, "final", 0))
    with pytest.raises(SystemExit, match=rf"3.11 to 3.13 is needed; this is {version[0]}.{version[1]}\."):
        exec(compile(source, "develop.py", "exec"), {"__name__": "__main__", "__file__": str(ROOT / "develop.py")})
