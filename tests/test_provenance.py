"""Results name the code, the versions and the hardware they come from."""

import datetime
import platform
import subprocess

import torch

from chromolib import device, paths, provenance


def test_it_names_the_commit_as_git_does():
    project = provenance.describe()["project"]
    found = subprocess.run(["git", "-C", paths.ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert project["commit"] == (found.stdout.strip() if found.returncode == 0 else None)


def test_outside_git_it_says_nothing_rather_than_something_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert provenance.describe()["project"] == {"commit": None, "clean": None}


def test_it_names_versions_and_hardware():
    found = provenance.describe()
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert found["hardware"]["cores"] >= 1
    assert found["hardware"]["processor"]


def test_the_time_is_utc():
    assert datetime.datetime.fromisoformat(provenance.now()).utcoffset() == datetime.timedelta(0)


def test_bf16_only_where_asked_and_fast():
    cpu = torch.device("cpu")
    with device.autocast(cpu, enabled=False):
        assert not torch.is_autocast_enabled("cpu")
    with device.autocast(cpu):
        assert torch.is_autocast_enabled("cpu") == device.has_fast_bfloat16(cpu)
