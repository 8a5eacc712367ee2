"""Files are whole or absent, and a lock is one process's, or said to be none."""

import errno
import hashlib
import os
import signal

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from chromolib import files
from chromolib.errors import StudyError


def test_it_replaces_at_once(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with files.replacing(target) as temporary:
        temporary.write_text("first")
        assert not target.exists()
    with files.replacing(target) as temporary:
        temporary.write_text("second")
        assert target.read_text() == "first"
    assert target.read_text() == "second"
    assert os.listdir(target.parent) == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyError), files.replacing(target) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


TABLE = pd.DataFrame({"number": np.random.default_rng(0).random(1000)})


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write_bytes(bytes(2000)),
        lambda file: torch.save(torch.zeros(1000), file),
        lambda file: safetensors.torch.save_file({"zeros": torch.zeros(1000)}, file),
        lambda file: TABLE.to_csv(file),
        lambda file: TABLE.to_parquet(file),
    ],
    ids=["bytes", "torch", "safetensors", "csv", "parquet"],
)
def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path, full_disk, write):
    target = tmp_path / "a.parquet"
    target.write_text("old")
    with pytest.raises(StudyError, match=r"a\.parquet: cannot be written"), files.replacing(target) as temporary:
        write(temporary)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.parquet"]


def write_until_killed(target, moment):
    replace = os.replace

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = die if moment == "written" else lambda *names: (replace(*names), die())
    with files.replacing(target) as temporary:
        temporary.write_text("ne" if moment == "half written" else "new")
        if moment == "half written":
            die()


@pytest.mark.fault(5)
@pytest.mark.parametrize("moment", ["half written", "written", "replaced"])
def test_a_kill_while_writing_leaves_the_old_or_the_new_file_whole(tmp_path, killed_in, moment):
    target = tmp_path / "state.pt"
    target.write_text("old")
    killed_in(write_until_killed, target, moment)
    assert target.read_text() == ("new" if moment == "replaced" else "old")


def test_others_may_read_it(tmp_path):
    with files.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(tmp_path / "abc") == hashlib.sha256(b"abc").hexdigest()


def failing(number):
    """A system call that fails with this errno, whatever it is given."""

    def call(*_):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.fault(26)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_flush_is_no_failure(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", failing(number))
    with files.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.fault(26)
def test_a_folder_that_cannot_be_opened_is_no_failure(tmp_path, monkeypatch):
    """As on Windows."""
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened("/absent" if os.path.isdir(path) else path, *rest))
    with files.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.fault(26)
def test_a_disk_that_loses_what_was_written_is_one(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(StudyError, match="before is kept"), files.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.fault(27)
def test_a_lock_is_held_once_and_free_again(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    first = files.lock(tmp_path / ".lock")
    assert files.lock(tmp_path / ".lock") is None
    first.release()
    second = files.lock(tmp_path / ".lock", wait=-1)
    with open(tmp_path / ".lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system's own word
    second.release()


@pytest.mark.fault(27)
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_not_taken_for_another_process(tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", failing(number))
    for _ in range(2):  # a lock by mere existence would refuse the second
        with pytest.warns(UserWarning, match=r"\.lock: the file system has no locks.*no other process works"):
            files.lock(tmp_path / ".lock").release()


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        files.lock(tmp_path / "file" / ".lock")


def test_matching_is_sorted_and_names_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    """As mode 000 does, which does not stop root; pathlib's glob passes over it, so a table would lack runs."""
    for name in ("b/1/run.json", "a/2/run.json", "a/1/run.json", "a/3/other.json", "run.json", "c/.part.x.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in files.matching(tmp_path, "*/*/run.json")]
    assert found == ["a/1/run.json", "a/2/run.json", "b/1/run.json"]
    assert files.matching(tmp_path / "absent", "*") == files.matching(tmp_path, "c/*.json") == []
    listdir = os.listdir

    def refuse(path):
        if os.fspath(path) == str(tmp_path / "a" / "2"):
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(StudyError, match=r"a/2: cannot be read \(Permission denied\)"):
        files.matching(tmp_path, "*/*/run.json")
