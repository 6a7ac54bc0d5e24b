#!/usr/bin/env python3
"""Set up and run the project with nothing but Python: `develop.py demo`, `develop.py test`, `develop.py slow`.

The commands make a virtual environment in `.venv` on the first call and install the package into it.
`demo` compares ALBERT with and without weight sharing on the reviews in the package; what follows the
word goes to examples/reviews.py. `test` checks style and types and runs all tests on the three backends;
what follows goes to pytest. `slow` runs the full counts of what `test` only samples (hours).
"""

import os
import subprocess
import sys
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Before anything that older versions cannot run; the file must be one that they can read.
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit("Python 3.11 to 3.13 is needed; this is {}.{}. Run it with one of those.".format(*sys.version_info[:2]))

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
SCRIPTS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
# The plain name `torch` may bring gigabytes of CUDA packages; this release has a CPU wheel of its own.
TORCH = "torch==2.13.0"
# Backend and pytest's marks, two at a time on two cores; what does not depend on the backend runs once.
RUNS = (("tensorflow", "once"), ("tensorflow", "not once"), ("jax", "not once"), ("torch", "not once"))

EXTRAS = "test,jax,plot,interop,export,serving,serve"

# XLA's newer emitters take twice as long to compile a training step. The older ones round equal sums of gradients
# differently where they may fuse a product into one of them, which AVX cannot.
QUICK_TO_COMPILE = dict.fromkeys(("tensorflow", "torch"), "--xla_backend_optimization_level=0")
QUICK_TO_COMPILE["jax"] = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX"

NO_TESTS = 5  # pytest's exit status


def install(extras: str, *first: str) -> None:
    """Install the package with `extras` into the environment, and `first` before it, unless done already."""
    done = ENVIRONMENT / f"installed-{extras.replace(',', '-')}"
    if done.exists() and done.stat().st_mtime > (ROOT / "pyproject.toml").stat().st_mtime:
        return
    if not SCRIPTS.exists():
        print(f"Making the environment {ENVIRONMENT} ...", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    for packages in ([*first], ["--editable", f"{ROOT}[{extras}]"]):
        if packages:
            print(f"Installing {' '.join(packages)} (minutes, the first time) ...", flush=True)
            subprocess.run([SCRIPTS / "python", "-m", "pip", "install", "--quiet", *packages], check=True)
    done.touch()


def demo(arguments: list[str]) -> int:
    """Compare ALBERT shared and unshared on the reviews that come with the package."""
    install("plot")
    return subprocess.run([SCRIPTS / "python", ROOT / "examples" / "reviews.py", *arguments]).returncode


def slow(arguments: list[str]) -> int:
    """Run the full counts of what `test` samples: many thousands of damaged files, hundreds of kills, threads."""
    install(EXTRAS, TORCH)
    runs = [(backend, f"{marks} and slow") for backend, marks in RUNS]
    return failed_tests({run_tests(*run, arguments) for run in runs})


def test(arguments: list[str]) -> int:
    """Check style and types, then run the tests on every backend."""
    install(EXTRAS, TORCH)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        tests = pool.map(lambda run: run_tests(run[0], f"{run[1]} and not slow", arguments), RUNS)
        style = pool.submit(check_style)
        return style.result() | failed_tests(set(tests))


def check_style() -> int:
    """Check style and types, and return 1 where something is amiss."""
    failed = 0
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        done = subprocess.run([SCRIPTS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
        print("$", *command, "\n" + done.stdout + done.stderr, flush=True)
        failed |= done.returncode
    return int(failed != 0)


def failed_tests(codes: set[int]) -> int:
    """Return 1 where a run failed; where arguments choose some tests, runs may have none, but not all of them."""
    return int(codes == {NO_TESTS} or not codes <= {0, NO_TESTS})


def run_tests(backend: str, marks: str, arguments: list[str]) -> int:
    """Run the marked tests on one backend, print their lines as they come, and return the exit status."""
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
    # Small models run for moments and are compiled for seconds.
    environment.setdefault("XLA_FLAGS", QUICK_TO_COMPILE[backend])
    command = [SCRIPTS / "python", "-m", "pytest", "-m", marks, "--durations=20", *arguments]
    started = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{backend}, {marks}: {line}", end="", flush=True)
    print(f"=== {backend}, {marks}: {time.monotonic() - started:.0f} s, exit {process.returncode}", flush=True)
    return process.returncode


if __name__ == "__main__":
    commands = {"demo": demo, "test": test, "slow": slow}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(f"usage: {sys.argv[0]} demo|test|slow [arguments]\n\n{__doc__}")
    sys.exit(commands[sys.argv[1]](sys.argv[2:]))
