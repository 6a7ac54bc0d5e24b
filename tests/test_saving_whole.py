"""A saver writes its set of files whole or not at all: when a write fails, when it is killed, when others write too.

`pytest -m slow tests/test_saving_whole.py` kills 200 times; the suite does so a few times.
"""

import errno
import os
import random
import shutil
import signal
import sys
import threading
import time

import pytest
from support.savers import SAVERS, content_of

from bert4albert import Bert4AlbertError, Tokenizer, files
from bert4albert.errors import CheckpointError, DataError, TokenizerError
from bert4albert.files import _DECIDED, _STAGING, reading, write_atomically, writing

pytestmark = pytest.mark.once

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")


@pytest.fixture(scope="module")
def saver_of():
    made = {}
    return lambda kind: made.setdefault(kind, SAVERS[kind]()) if kind not in made else made[kind]


class Failing:
    """While it is entered, the system refuses one operation: the opening to write, renaming, making or syncing.

    An audit hook sees them all, whoever asks for them; it stays for good, and does nothing most of the time.
    """

    current = None
    installed = False

    def __init__(self, number, error):
        self.left, self.error = number, error

    def __enter__(self):
        if not Failing.installed:
            sys.addaudithook(Failing.hook)
            Failing.installed = True
        Failing.current = self
        return self

    def __exit__(self, *_):
        Failing.current = None

    @staticmethod
    def hook(event, arguments):
        if Failing.current is None:
            return
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if opened or event in ("os.mkdir", "os.rename"):
            Failing.current.count()

    def count(self):
        self.left -= 1
        if self.left == 0:
            raise self.error


def sync(descriptor, original=os.fsync):
    if Failing.current is not None:
        Failing.current.count()
    original(descriptor)


@pytest.mark.parametrize("kind", SAVERS)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_when_any_one_operation_fails_the_old_set_is_there_and_nothing_else(
    tmp_path, monkeypatch, saver_of, kind, error
):
    saver = saver_of(kind)
    monkeypatch.setattr(os, "fsync", sync)
    saver.save(tmp_path / "set", 0)
    (tmp_path / "set" / "notes.txt").write_text("mine")
    before = content_of(tmp_path)
    for number in range(1, 100):
        raised = None
        try:
            with Failing(number, error) as failing:
                saver.save(tmp_path / "set", 1)
        except (Bert4AlbertError, KeyboardInterrupt) as caught:
            raised = caught
        if failing.left > 0:
            break
        if raised is None:  # a refusal that does not matter, such as to make a folder that is there
            assert saver.read(tmp_path / "set") == 1
            saver.save(tmp_path / "set", 0)
            before = content_of(tmp_path)
            continue
        assert isinstance(error, OSError) == isinstance(raised, Bert4AlbertError)
        assert len(str(raised).splitlines()) <= 1
        assert content_of(tmp_path) == before, number
        assert not list((tmp_path / "set").glob(".*"))
    assert number > 4
    assert saver.read(tmp_path / "set") == 1
    assert (tmp_path / "set" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", SAVERS)
def test_on_a_disk_that_fills_up_the_old_set_stays(tmp_path, saver_of, kind):
    resource = pytest.importorskip("resource")
    saver = saver_of(kind)
    saver.save(tmp_path, 0)
    before = content_of(tmp_path)
    largest = max(map(len, before.values()))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in sorted({0, 1, largest // 3, largest // 2, largest - 100} - {-1}):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(most, 0), limits[1]))
            with pytest.raises(Bert4AlbertError, match="could not be written"):
                saver.save(tmp_path, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert content_of(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


def forked(work):
    """Run something in a process of its own, which ends with it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except Bert4AlbertError:
            os._exit(1)
        finally:
            os._exit(2)
    return child


def save_again_and_again(saver, folder, report):
    for version in map((1).__and__, range(10**6)):
        saver.save(folder, version)
        os.write(report, b".")


def kill(saver, folder, wait):
    """Kill a process so many seconds after its first save, while it saves; return how often it had saved."""
    reader, writer = os.pipe()
    child = forked(lambda: save_again_and_again(saver, folder, writer))
    os.close(writer)
    first = os.read(reader, 1)  # it has begun
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    saves = len(first)
    while part := os.read(reader, 4096):
        saves += len(part)
    os.close(reader)
    return saves


def check_kills(saver, folder, count, seed=0, least=-1):
    """Kill so often; where saves are short, up to four times as often, until so many of them were interrupted."""
    chance, interrupted = random.Random(seed), 0
    (folder / "set").mkdir()
    (folder / "set" / "notes.txt").write_text("mine")
    saver.save(folder / "set", 0)
    started = time.perf_counter()
    saver.save(folder / "set", 1)
    seconds = time.perf_counter() - started
    for number in range(4 * count):
        if number >= count and interrupted > least:
            break
        assert kill(saver, folder / "set", chance.random() * 2 * seconds) > 0, number
        interrupted += any(path.name.startswith(".") for path in (folder / "set").iterdir())
        assert saver.read(folder / "set") in (0, 1)
    saver.save(folder / "set", 1)
    assert saver.read(folder / "set") == 1
    assert not list((folder / "set").glob(".*"))
    assert (folder / "set" / "notes.txt").read_text() == "mine"
    return interrupted


@needs_fork
@pytest.mark.parametrize("kind", SAVERS)
def test_a_killed_saver_leaves_one_whole_set(tmp_path, saver_of, kind):
    check_kills(saver_of(kind), tmp_path, 5)


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("kind", SAVERS)
def test_savers_killed_two_hundred_times_leave_one_whole_set(tmp_path, saver_of, kind):
    count = 200 // len(SAVERS) + 1
    interrupted = check_kills(saver_of(kind), tmp_path, count, seed=1, least=count // 4)
    print(f"{kind}: at least {count} kills, {interrupted} of them in the middle of a save")
    assert interrupted > count // 4


def check_two_writers(saver, folder, count):
    saver.save(folder, 0)
    outcomes = []
    for _ in range(count):
        children = [forked(lambda version=version: saver.save(folder, version)) for version in (0, 1)]
        while children:
            assert saver.read(folder) in (0, 1)
            ended, status = os.waitpid(children[0], os.WNOHANG)
            if ended:
                children.pop(0)
                assert os.waitstatus_to_exitcode(status) in (0, 1)
        outcomes.append(saver.read(folder))
    assert not list(folder.glob(".*"))
    return outcomes


@needs_fork
@pytest.mark.parametrize("kind", SAVERS)
def test_of_two_writers_at_once_one_is_the_last(tmp_path, saver_of, kind):
    check_two_writers(saver_of(kind), tmp_path, 3)


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("kind", SAVERS)
def test_of_two_writers_at_once_one_is_the_last_a_hundred_times(tmp_path, saver_of, kind):
    outcomes = check_two_writers(saver_of(kind), tmp_path, 100 // len(SAVERS) + 1)
    print(f"{kind}: last was {outcomes.count(0)} times the first, {outcomes.count(1)} times the second")


# Each step of a writer that died, by hand


def interrupted_after(moves, folder, saver):
    """Leave a folder as a writer of version 1 does that dies after so many of its renames."""

    def rename(source, target, original=os.rename):
        nonlocal moves
        if moves == 0:
            raise SystemExit
        moves -= 1
        original(source, target)

    child = os.fork()
    if child == 0:
        os.rename = rename
        try:
            saver.save(folder, 1)
        except SystemExit:
            # Undoing its moves has failed too, as it does for a process that is no more.
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


@needs_fork
@pytest.mark.parametrize("kind", ["hf", "google", "npz", "tokenizer"])
def test_whoever_comes_after_a_dead_writer_completes_what_it_had_decided(tmp_path, monkeypatch, saver_of, kind):
    saver = saver_of(kind)
    named_last = "model.ckpt.index" if kind == "google" else "config.json"
    for moves in range(20):
        folder = tmp_path / str(moves)
        saver.save(folder, 0)
        died = interrupted_after(moves, folder, saver)
        # A reader that knows nothing of us finds the file that names the others only beside those it names.
        if kind != "tokenizer" and (folder / named_last).exists():
            hidden = folder.rename(folder.with_suffix(".foreign")) / _DECIDED
            if hidden.exists():
                hidden.rename(hidden.with_name("hidden"))
            assert saver.read(hidden.parent) in (0, 1)
            if hidden.with_name("hidden").exists():
                hidden.with_name("hidden").rename(hidden)
            hidden.parent.rename(folder)
        assert saver.read(folder) == int(moves > 0)
        saver.save(folder, 0)
        assert saver.read(folder) == 0
        assert not list(folder.glob(".*"))
        if not died:
            break
    assert moves > 4


def test_a_reader_that_may_not_complete_a_save_is_told(tmp_path, monkeypatch):
    (tmp_path / _DECIDED).mkdir()
    (tmp_path / _DECIDED / "vocab.txt").write_text("[UNK]")

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(DataError, match=r"was interrupted .*Read-only file system.*save again"):
        Tokenizer(tmp_path)


# Targets, leftovers, locks


@pytest.mark.parametrize("kind", SAVERS)
def test_a_target_that_is_no_place_for_files_is_refused_in_words(tmp_path, saver_of, kind):
    saver = saver_of(kind)
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "file" / "far" / "below"):
        if kind == "state" and folder != tmp_path / "file":
            continue
        with pytest.raises((Bert4AlbertError, FileExistsError) if kind == "state" else Bert4AlbertError) as caught:
            saver.save(folder, 0)
        assert len(str(caught.value).splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", [kind for kind in SAVERS if kind != "state"])
def test_a_file_that_is_a_folder_a_pipe_or_a_device_is_never_replaced(tmp_path, saver_of, kind):
    saver = saver_of(kind)
    saver.save(tmp_path, 0)
    name = next(path for path in sorted(tmp_path.iterdir()) if path.suffix in (".json", ".txt"))
    name.unlink()
    for make in (lambda: name.mkdir(), lambda: os.mkfifo(name), lambda: name.symlink_to("/dev/null")):
        make()
        before = content_of(tmp_path)
        with pytest.raises(Bert4AlbertError, match="a folder, a device or a pipe"):
            saver.save(tmp_path, 1)
        assert content_of(tmp_path) == before
        assert not list(tmp_path.glob(".*"))
        name.rmdir() if name.is_dir() else name.unlink()
    saver.save(tmp_path, 1)
    assert saver.read(tmp_path) == 1


@pytest.mark.parametrize("moment", ["mkdtemp", "_opened"])
def test_a_folder_that_another_writer_took_for_a_dead_ones_is_made_anew(tmp_path, monkeypatch, moment):
    where = files if moment == "_opened" else files.tempfile
    original, taken = getattr(where, moment), []

    def and_taken(*arguments, **options):
        result = original(*arguments, **options)
        staging = result if moment == "mkdtemp" else arguments[0]
        if not taken and files._STAGING in str(staging):
            taken.append(staging)
            shutil.rmtree(staging)
        return result

    monkeypatch.setattr(where, moment, and_taken)
    files.write_json(tmp_path / "x.json", {"a": 1})
    assert taken
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_leftovers_of_dead_writers_go_and_those_of_live_ones_stay(tmp_path):
    (tmp_path / f"{_STAGING}dead").mkdir()
    (tmp_path / f"{_STAGING}dead" / "half").write_text("half")
    with writing(tmp_path) as alive:
        (alive / "a").write_text("new")
        write_atomically(tmp_path / "b", lambda file: file.write(b"other"))
        assert [path.name for path in tmp_path.glob(".*")] == [alive.name]
    assert content_of(tmp_path) == {"a": b"new", "b": b"other"}


def test_two_saves_of_one_process_never_share_a_temporary_name(tmp_path):
    with writing(tmp_path) as first, writing(tmp_path) as second:
        assert first != second


def test_a_writer_waits_for_readers_and_a_reader_for_a_writer(tmp_path, saver_of):
    saver, order = saver_of("hf"), []
    saver.save(tmp_path, 0)
    with reading(tmp_path):
        thread = threading.Thread(target=lambda: (saver.save(tmp_path, 1), order.append("saved")))
        thread.start()
        time.sleep(0.1)
        order.append("read")
        assert saver.read(tmp_path) == 0
    thread.join()
    assert order == ["read", "saved"]
    assert saver.read(tmp_path) == 1


def test_files_of_an_earlier_set_that_the_new_one_lacks_go_with_it(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with writing(tmp_path, outdated=["vocab.txt", "spiece.model"]) as new:
        (new / "vocab.txt").write_text("a")
        (new / "task.json").write_text("{}")
    with writing(tmp_path, outdated=["vocab.txt", "spiece.model"]) as new:
        (new / "spiece.model").write_text("b")
        (new / "task.json").write_text("[]")
    assert content_of(tmp_path) == {"notes.txt": b"mine", "spiece.model": b"b", "task.json": b"[]"}


@pytest.mark.parametrize("error", [CheckpointError, TokenizerError])
def test_the_error_is_of_the_class_asked_for(tmp_path, error):
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match="it is a file, and not a folder"), writing(tmp_path / "file", error=error):
        pass
