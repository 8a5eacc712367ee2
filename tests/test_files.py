"""Files are whole or absent."""

import hashlib
import os

import pytest

from chromolib import files


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
    with pytest.raises(RuntimeError), files.replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_others_may_read_it(tmp_path):
    with files.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(tmp_path / "abc") == hashlib.sha256(b"abc").hexdigest()
