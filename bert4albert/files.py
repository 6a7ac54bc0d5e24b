"""Sets of files written whole or not at all, and kept as they are while they are read.

How a set is saved: everything is written into a hidden folder inside the target folder, which its writer locks while
it lives. When all is there, the decision is one rename of that folder to a name that everyone knows; then the files
move into place. A writer that dies before the decision leaves rubbish, which the next one removes. One that dies after
it leaves a set that is whole, and whoever comes next, writer or reader, moves the rest into place. A lock on the
folder keeps this apart from other writers and from readers; the system gives it back however a process ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from bert4albert.errors import Bert4AlbertError, DataError

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

_STAGING = ".bert4albert-saving-"
_DECIDED = ".bert4albert-saved"
_OUTDATED = ".outdated"
_RUN_LOCK = ".running"
_PATIENCE = 600.0  # seconds that others may take to load from a folder, or to save to it


@contextlib.contextmanager
def writing(
    folder: str | os.PathLike[str],
    *,
    outdated: Iterable[str] = (),
    checks: Sequence[Callable[[Path, Path], None]] = (),
    error: type[Bert4AlbertError] = DataError,
) -> Iterator[Path]:
    """Give an empty folder to write to; when all went well its files take their places in `folder`, all or none.

    Arguments:
        folder: where the files go; made if need be. Other files in it stay.
        outdated: names that earlier sets may have left in `folder`, and that go where the new set lacks them.
        checks: called with the new files' folder and `folder` while nobody else writes; they raise to refuse.
        error: what to raise where the disk is full or the folder cannot be written; all is then as before.
    """
    folder = Path(folder)
    with explained(folder, error), _staging(folder) as staging:
        yield staging
        names = sorted(os.listdir(staging), key=_comes_last)
        for name in names:
            _refuse_special(folder / name)
            _flush(staging / name)
        if len(names) == 1 and not outdated and not checks:
            with _settled(folder):
                os.replace(staging / names[0], folder / names[0])
            return
        with _held(folder, exclusive=True):
            _settle(folder)
            for check in checks:
                check(staging, folder)
            (staging / _OUTDATED).write_text("\n".join(set(outdated) - set(names)), encoding="utf-8")
            _put_in_place(folder, staging)


def write_atomically(path: Path, write: Callable[[BinaryIO], Any], error: type[Bert4AlbertError] = DataError) -> None:
    """Write one file whole or not at all.

    Arguments:
        path: the file; an old one of this name stays as it is until the new one is whole.
        write: writes the content to the binary file it is given.
        error: as for `writing`.
    """
    with writing(path.parent, error=error) as new, open(new / path.name, "wb") as file:
        write(file)


@contextlib.contextmanager
def reading(*paths: Any) -> Iterator[None]:
    """Keep the sets of files that these paths belong to as they are inside a `with` block.

    Arguments:
        paths: files or folders; what is no path, or does not exist, is passed over.

    Raises `DataError` where a save was interrupted at its very end, and cannot be completed from here.
    """
    with contextlib.ExitStack() as held:
        for folder in dict.fromkeys(filter(None, map(_folder_of, paths))):
            held.enter_context(_settled(folder))
        yield


@contextlib.contextmanager
def _settled(folder: Path) -> Iterator[None]:
    """Complete a save whose writer died after its decision, and keep writers away."""
    while True:
        try:
            if os.path.exists(folder / _DECIDED):
                with _held(folder, exclusive=True):
                    _settle(folder)
            lock = _opened(folder)
            _lock(lock, exclusive=False)
        except OSError as error:
            raise DataError(
                f"A save to {folder} was interrupted and cannot be completed from here ({error.strerror or error}): "
                "load it once where that folder can be written, or save again."
            ) from None
        try:
            if not os.path.exists(folder / _DECIDED):
                yield
                return
        finally:
            _close(lock)


@contextlib.contextmanager
def explained(path: Path, error: type[Bert4AlbertError] = DataError) -> Iterator[None]:
    """Turn the system's refusal to write a file into an error that says what to do."""
    try:
        yield
    except OSError as refusal:
        raise error(
            f"{path} could not be written ({refusal.strerror or refusal}); what was there before is intact. "
            "Free some space or choose another folder, and run the same command again."
        ) from None


def write_json(path: Path, values: Any) -> None:
    """Write a file of readable JSON, whole or not at all."""
    text = json.dumps(values, ensure_ascii=False, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


@contextlib.contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Keep a folder, made if need be, to this process.

    Raises `DataError` where another process holds it, which would write over the same files.
    """
    with claimed(folder / _RUN_LOCK) as free:
        if not free:
            raise DataError(f"{folder} belongs to a run that is still going: wait for its end, or give another folder.")
        yield


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim a piece of work by a lock file; the system gives it back however the process ends.

    Yields whether it is ours: False where another process, also one on another machine that shares the folder, has
    it. The folder is made if need be, and the lock file removed at the end.
    """
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            # Open to write, which network file systems want for a lock.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
            free = _try_lock(descriptor, exclusive=True)
            if not free or _is_at(descriptor, path):
                break
            os.close(descriptor)  # whoever had it removed it in the meantime
    try:
        yield free
    finally:
        with contextlib.suppress(OSError):
            if free:
                path.unlink()
        os.close(descriptor)


def _put_in_place(folder: Path, staging: Path) -> None:
    """Move the files of a whole set to where they belong, by renames alone, so that each can be undone."""
    decided = folder / _DECIDED
    names = sorted(set(os.listdir(staging)) - {_OUTDATED}, key=_comes_last)
    outdated = _outdated(staging)
    with _staging(folder) as old:
        there = [name for name in [*reversed(names), *outdated] if os.path.lexists(folder / name)]
        moves = [(staging, decided)] if staging != decided else []
        # What names the others goes first and comes last: who knows nothing of us never pairs old with new.
        moves += [(folder / name, old / name) for name in there]
        moves += [(decided / name, folder / name) for name in names]
        _rename_all(moves)
    shutil.rmtree(decided, ignore_errors=True)


def _rename_all(moves: list[tuple[Path, Path]]) -> None:
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            os.rename(source, target)
            done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            os.rename(target, source)
        raise


def _settle(folder: Path) -> None:
    decided = folder / _DECIDED
    if os.path.exists(decided):
        _put_in_place(folder, decided)


def _outdated(decided: Path) -> list[str]:
    try:
        return (decided / _OUTDATED).read_text(encoding="utf-8").split()
    except FileNotFoundError:  # whoever came before had nothing left to do but to remove the folder
        return []


def _comes_last(name: str) -> bool:
    """Whether a file is the one by which other programs find the rest of a checkpoint."""
    return name == "config.json" or name.endswith(".index")


def _refuse_special(target: Path) -> None:
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(errno.EINVAL, f"{target.name} is a folder, a device or a pipe, not a file")


def _flush(path: Path) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Make a hidden folder in `folder`, locked while its writer lives, and remove it in the end."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise OSError(errno.ENOTDIR, "it is a file, and not a folder to save to")
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    while True:
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
        descriptor = _opened(staging)
        _lock(descriptor, exclusive=True)
        # Before it was open and locked, another writer may have taken it for a dead one's.
        if staging.is_dir() and (descriptor is None or _is_at(descriptor, staging)):
            break
        _close(descriptor)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _remove_leftovers(folder: Path) -> None:
    if fcntl is None:  # who is dead cannot be told
        return
    for name in os.listdir(folder):
        if name.startswith(_STAGING):
            with contextlib.suppress(OSError):
                descriptor = os.open(folder / name, os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder / name, ignore_errors=True)
                finally:
                    os.close(descriptor)


def _folder_of(path: Any) -> Path | None:
    if not isinstance(path, str | os.PathLike):
        return None
    return next((folder for folder in (Path(path), Path(path).parent) if os.path.isdir(folder)), None)


@contextlib.contextmanager
def _held(folder: Path, exclusive: bool) -> Iterator[None]:
    """Hold the lock of a folder: one writer, or any number of readers."""
    descriptor = _opened(folder)
    try:
        _lock(descriptor, exclusive)
        yield
    finally:
        _close(descriptor)


def _opened(folder: Path) -> int | None:
    if fcntl is None:
        return None
    try:
        return os.open(folder, os.O_RDONLY)
    except OSError:  # a folder that cannot be opened cannot be locked, and what follows says so better
        return None


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _lock(descriptor: int | None, exclusive: bool) -> None:
    end = time.monotonic() + _PATIENCE
    while not _try_lock(descriptor, exclusive):
        if time.monotonic() > end:
            raise OSError(errno.EBUSY, "other programs have it in use")
        time.sleep(0.005)


def _try_lock(descriptor: int | None, exclusive: bool) -> bool:
    """Take a lock; False if others have it. Where the file system knows none, one goes on without."""
    if descriptor is None or fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
