"""One line in the terminal that says how far a long task is."""

from __future__ import annotations

import sys
import time


class ProgressLine:
    """A progress bar on standard error; written over itself in a terminal, a line a minute elsewhere.

    Arguments:
        task: what is being done, in a few words.
        start: the fraction that was done before, so that the time left is right after a resumed run.
    """

    def __init__(self, task: str, start: float = 0.0) -> None:
        self._task = task
        self._start = start
        self._began = self._last = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    def show(self, fraction: float, note: str = "", last: bool = False) -> None:
        """Say how far the task is.

        Arguments:
            fraction: between 0 and 1.
            note: what to say behind the bar.
            last: whether to say it in any case, and to end the line.
        """
        now = time.monotonic()
        if not last and now - self._last < (0.2 if self._is_terminal else 60):
            return
        self._last = now
        bar = "█" * round(20 * fraction) + "░" * (20 - round(20 * fraction))
        done = fraction - self._start
        left = (now - self._began) / done * (1 - fraction) if done > 0 else 0.0
        line = f"{self._task} {bar} {fraction:4.0%} {note} {duration(left)} left"
        end = "\n" if last or not self._is_terminal else ""
        print(f"\r{line}\x1b[K" if self._is_terminal else line, end=end, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return '1:02:03' or '2:03'."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
