"""Files are whole or absent."""

import hashlib
import os
import resource
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


@pytest.fixture
def full_disk():
    """No file can grow beyond a thousand bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


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
