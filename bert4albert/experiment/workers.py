"""Processes that share the runs of a comparison, and the processor's cores."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from bert4albert.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from bert4albert.experiment.runs import Experiment, Run


def share_work(experiment: Experiment, runs: Sequence[Run], workers: int, look: Callable[[], Any]) -> None:
    """Do runs in several processes.

    Arguments:
        experiment, runs: as for `experiment.runs.work`.
        workers: how many processes; each has its share of the cores where the system allows it (Linux).
        look: called each second until all is done.

    Raises `ConfigError` for a `make_task` that cannot be sent to a process, and `TrainingError` where one died.
    """
    try:
        payload = pickle.dumps((experiment, list(runs)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"workers needs a make_task that can be sent to other processes ({error}): give a functools.partial of the "
            "task's class, or start your script several times with the same folder instead."
        ) from None
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, _take_cores, (context.Value("i", 0), workers)) as pool:
        futures = [pool.submit(_work, payload) for _ in range(workers)]
        try:
            while wait(futures, timeout=1).not_done:
                look()
            for future in futures:
                future.result()
        except BrokenProcessPool:
            raise TrainingError(
                "One of the worker processes was killed, perhaps for want of memory. Finished runs are kept: call it "
                "again, with fewer workers."
            ) from None


def _take_cores(counter: Any, workers: int) -> None:
    """Keep this process to its share of the cores, before a backend counts them."""
    with counter.get_lock():
        place = counter.value
        counter.value += 1
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[place % len(cores) :: workers])


def _work(payload: bytes) -> None:
    from bert4albert.experiment.runs import work

    work(*pickle.loads(payload))
