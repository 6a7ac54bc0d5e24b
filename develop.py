#!/usr/bin/env python3
"""Set up and run the project with nothing but Python: `develop.py demo`, `develop.py test`.

Both commands make a virtual environment in `.venv` on the first call and install the package into it.
`demo` fine-tunes ALBERT with and without weight sharing on the reviews in the package; what follows the
word goes to examples/sentiment.py. `test` checks style and types and runs all tests on the three backends;
what follows goes to pytest.
"""

import os
import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
SCRIPTS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
# The plain name `torch` may bring gigabytes of CUDA packages; this release has a CPU wheel of its own.
TORCH = "torch==2.13.0"
# Backend and pytest's marks, two at a time on two cores; what does not depend on the backend runs once.
RUNS = (("tensorflow", "once"), ("jax", "not once"), ("tensorflow", "not once"), ("torch", "not once"))

NO_TESTS = 5  # pytest's exit status


def install(extras: str, *first: str) -> None:
    """Install the package with `extras` into the environment, and `first` before it, unless done already."""
    done = ENVIRONMENT / f"installed-{extras.replace(',', '-')}"
    if done.exists() and done.stat().st_mtime > (ROOT / "pyproject.toml").stat().st_mtime:
        return
    if sys.version_info < (3, 11):  # noqa: UP036  (it is this very check that older versions need to reach)
        sys.exit(f"Python 3.11 to 3.13 is needed; this is {sys.version.split()[0]}. Run it with a newer one.")
    if not SCRIPTS.exists():
        print(f"Making the environment {ENVIRONMENT} ...", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    for packages in ([*first], ["--editable", f"{ROOT}[{extras}]"]):
        if packages:
            print(f"Installing {' '.join(packages)} (minutes, the first time) ...", flush=True)
            subprocess.run([SCRIPTS / "python", "-m", "pip", "install", "--quiet", *packages], check=True)
    done.touch()


def demo(arguments: list[str]) -> int:
    """Fine-tune ALBERT shared and unshared on the reviews that come with the package."""
    install("plot")
    script = [ROOT / "examples" / "sentiment.py"]
    return subprocess.run(
        [SCRIPTS / "python", *script, *(arguments or ["--model", "albert", "albert_unshared"])]
    ).returncode


def test(arguments: list[str]) -> int:
    """Check style and types, then run the tests on every backend."""
    install("test,jax,plot,interop", TORCH)
    failed = 0
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        print("$", *command, flush=True)
        failed |= subprocess.run([SCRIPTS / command[0], *command[1:]], cwd=ROOT).returncode
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        codes = set(pool.map(lambda run: run_tests(*run, arguments), RUNS))
    # Where the arguments choose some tests, others of the runs may have none, but not all.
    return int(failed != 0 or codes == {NO_TESTS} or not codes <= {0, NO_TESTS})


def run_tests(backend: str, marks: str, arguments: list[str]) -> int:
    """Run the marked tests on one backend, print their output when they are done, and return the exit status."""
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
    # Small models run for moments and are compiled for seconds.
    environment.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    command = [SCRIPTS / "python", "-m", "pytest", "-m", marks, *arguments]
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output).returncode
        output.seek(0)
        text = output.read().decode(errors="replace")
    print(f"\n=== {backend}, {marks}: {time.monotonic() - started:.0f} s, exit {code}\n{text}", flush=True)
    return code


if __name__ == "__main__":
    commands = {"demo": demo, "test": test}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(f"usage: {sys.argv[0]} demo|test [arguments]\n\n{__doc__}")
    sys.exit(commands[sys.argv[1]](sys.argv[2:]))
