"""Results name the code, the versions and the hardware they come from."""

import datetime
import os
import platform
import subprocess
import sys
import warnings

import pytest
import torch

from chromolib import device, paths, provenance


def test_it_names_the_commit_as_git_does():
    with warnings.catch_warnings(action="ignore"):  # it may be a copy without its repository
        project = provenance.describe()["project"]
    found = subprocess.run(["git", "-C", paths.ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert project["commit"] == (found.stdout.strip() if found.returncode == 0 else None)


def git(folder, *words):
    """What git prints, with an author, in a repository of its own."""
    command = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit; its folder."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "first")
    return tmp_path


def described(monkeypatch, root):
    monkeypatch.setattr(paths, "ROOT", root)
    return provenance.describe()["project"]


def test_outside_git_it_is_said_that_the_commit_is_unknown(tmp_path, monkeypatch):
    with pytest.warns(UserWarning, match="commit of this code is not known: .*not a git repository"):
        project = described(monkeypatch, tmp_path)
    assert (project["commit"], project["clean"]) == (None, None)
    assert "not a git repository" in project["unknown"]


def test_a_copy_inside_another_repository_has_no_commit(repository, monkeypatch):
    (repository / "copy").mkdir()
    with pytest.warns(UserWarning, match="inside another repository"):
        assert described(monkeypatch, repository / "copy")["commit"] is None


def test_it_is_the_projects_own_commit_whatever_the_environment_names(repository, tmp_path, monkeypatch):
    first = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(paths.ROOT / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(paths.ROOT))
    assert described(monkeypatch, repository) == {"commit": first, "clean": True}
    (repository / "new").touch()
    assert provenance.describe()["project"]["clean"] is False


def test_a_path_with_other_letters_is_this_project_in_any_locale(repository):
    """As on Windows, or in a job with the locale C: Python then decodes what a program prints otherwise than paths."""
    folder = repository / "Müller"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "first")
    text = "import sys; from chromolib import paths, provenance; paths.ROOT = paths.Path(sys.argv[1]); "
    command = [sys.executable, "-c", f"{text}print(provenance._project())", folder]
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(command, cwd=paths.ROOT, env=os.environ | locale, capture_output=True, text=True)
    assert git(folder, "rev-parse", "HEAD") in done.stdout, done.stderr


def test_what_git_refuses_is_said(tmp_path, monkeypatch):
    """As git does where the folder belongs to somebody else."""
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\necho \"fatal: detected dubious ownership in repository at '$2'\" >&2; exit 128\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.warns(UserWarning, match="dubious ownership"):
        assert "dubious ownership" in described(monkeypatch, tmp_path)["unknown"]


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
