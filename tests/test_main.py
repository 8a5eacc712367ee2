"""python -m chromolib: every word leads somewhere, and what cannot be done is said in a line."""

import contextlib
import importlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from chromolib import __main__ as study
from chromolib import check, device, paths, provenance
from chromolib.errors import StudyError

WORDS = {*study.STUDIES, *study.PROGRAMS, *study.MODULES}


def test_an_unknown_word_is_answered_by_the_words_in_a_line():
    with pytest.raises(SystemExit) as exit:
        study.main(["dmeo"])
    assert exit.value.code.startswith("'dmeo' is no word of the study") and "\n" not in exit.value.code
    assert all(word in exit.value.code for word in WORDS)


def test_without_a_word_each_is_explained(capsys):
    study.main([])
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]} == WORDS


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="Windows has other pipes")
def test_a_reader_who_has_enough_is_no_error():
    """python -m chromolib | head: the pipe is closed before a line is written."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run([sys.executable, "-m", "chromolib"], cwd=paths.ROOT, stdout=pipe, stderr=subprocess.PIPE)
    assert done.stderr == b"" and done.returncode == 0


def test_every_word_leads_to_a_main():
    for module, _, _ in study.MODULES.values():
        assert callable(importlib.import_module(f"chromolib.{module}").main)


def test_the_makefile_says_no_command_twice():
    """Its targets call this, but for the environment and the benchmarks, which are no package."""
    text = (paths.ROOT / "Makefile").read_text()
    (several,) = re.findall(r"^(.*): setup\n\t\$\(STUDY\) \$@", text, re.MULTILINE)
    called = {*several.split(), *re.findall(r"^\t\$\(STUDY\) ([a-z-]+)", text, re.MULTILINE)}
    assert called <= WORDS and WORDS - called <= {"get", "notebooks", "tensorboard"}
    assert not re.search(r"snakemake|pytest|ruff|jupyter", text)


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
@pytest.mark.parametrize("target", ["new-data", "predict", "draw"])
def test_the_makefile_hands_on_a_folder_of_any_name(target):
    given = ["STUDY=printf '%s\\n'", "FOLDER=O'Brien's 100% #1"]
    words = ["make", "--silent", "--old-file", ".venv/installed", target, *given]
    done = subprocess.run(words, cwd=paths.ROOT, capture_output=True, text=True, check=True)
    assert "O'Brien's 100% #1" in done.stdout.splitlines()


def test_tensorboard_is_named_where_it_is_missing_and_gets_the_curves_of_each_fold(monkeypatch, tmp_path, capsys):
    written = {}

    class Writer(contextlib.AbstractContextManager):
        def __init__(self, folder):
            self.scalars = written.setdefault(folder.relative_to(tmp_path / "mine" / "tensorboard").as_posix(), [])

        def add_scalar(self, *values):
            self.scalars.append(values)

        __exit__ = lambda *_: None  # noqa: E731

    run = tmp_path / "mine" / "q_band" / "resnet34" / "scratch"
    run.mkdir(parents=True)
    (run / "history.csv").write_text("fold,epoch,train_loss\n0,1,3.5\n0,2,2.5\n4,1,3.25\n")
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="pip install tensorboard"):
        study.main(["tensorboard", "mine"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    study.main(["tensorboard", "mine"])
    assert written == {
        "q_band/resnet34/scratch/fold0": [("train_loss", 3.5, 1), ("train_loss", 2.5, 2)],
        "q_band/resnet34/scratch/fold4": [("train_loss", 3.25, 1)],
    }
    assert "tensorboard --logdir" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["verify", "publish", "compare", "study"])
def test_a_profile_without_runs_is_said_in_a_line(word, tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))
    with pytest.raises(SystemExit) as exit:
        study.main([word, "none_such"])
    assert "none_such" in exit.value.code and "\n" not in exit.value.code


def test_what_the_system_refuses_is_said_in_a_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"file.*cannot be written") as exit:
        study.main(["draw", str(tmp_path / "file")])
    assert "\n" not in exit.value.code
    monkeypatch.setenv("CHROMOLIB_DATA", str(tmp_path / "file"))
    with pytest.raises(SystemExit, match=r"File exists: .*file"):
        study.main(["get", "cir"])


def test_a_log_that_lacks_a_letter_ends_no_word(monkeypatch):
    """On Windows what goes to a file is in an old code page, and a cell may have any name."""
    log = io.TextIOWrapper(io.BytesIO(), "cp1252")
    monkeypatch.setattr(sys, "stdout", log)
    monkeypatch.setattr(importlib.import_module("chromolib.check"), "main", lambda _: print("Łódź"))
    study.main(["check"])
    assert log.buffer.getvalue().split() == [b"\\u0141\xf3d\\u017a"]


def test_ctrl_c_ends_a_word_in_a_line(monkeypatch, capsys):
    def wait(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("chromolib.check"), "main", wait)
    with pytest.raises(SystemExit) as exit:
        study.main(["check"])
    assert exit.value.code == 130 and capsys.readouterr().err == "interrupted\n"


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match=r"lab: the package jupyterlab is not installed: .*pip install"):
        study.main(["lab"])


@pytest.mark.skipif(not hasattr(signal, "pause"), reason="Windows sends no signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_program_end_by_itself(tmp_path, number):
    """The graph has trainings to stop, so nobody may kill it: not even the KeyboardInterrupt of its parent."""
    (tmp_path / "patient.py").write_text(
        "import os, signal, sys\n"
        "for number in (signal.SIGTERM, signal.SIGINT):\n"
        "    signal.signal(number, lambda *_: sys.exit(7))\n"
        "print(os.getpid(), flush=True)\n"
        "signal.pause()\n"
    )
    begin = f"from chromolib import __main__ as m, paths; paths.ROOT = {str(tmp_path)!r}; m.run('patient')"
    path = os.pathsep.join([str(tmp_path), str(paths.ROOT)])
    command = [sys.executable, "-c", begin]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    process.send_signal(number)
    if number == signal.SIGINT:  # a terminal sends it to both
        os.kill(child, number)
    assert process.wait() == 7


def checked():
    return {found.subject: found for found in check.everything()}


def test_this_machine_can_run_the_study(capsys):
    check.main([])
    lines = capsys.readouterr().out.splitlines()
    assert all(re.match(r"(ok|missing) +[a-z]+", line) for line in lines)
    assert any(line.startswith("ok") and "efficientnet_lite0" in line for line in lines)


def test_what_is_missing_is_said_with_its_remedy(monkeypatch, tmp_path):
    for variable in ("CHROMOLIB_DATA", "CHROMOLIB_WEIGHTS"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(provenance, "memory_gib", lambda: 1.0)
    found = checked()
    assert "train on fewer cores" in found["memory"].words
    assert "Get it from" in found["data, cir"].words
    assert str(tmp_path) in found["weights, resnet34"].words
    assert not any(found[name].ok for name in ("memory", "data, cir", "weights, resnet34"))
    (tmp_path / "resnet34.tv_in1k.safetensors").touch()
    assert checked()["weights, resnet34"].ok


@pytest.mark.fault(26)
@pytest.mark.parametrize("name", ["file", "file/below"])
def test_results_that_have_no_folder_end_the_check_with_1(monkeypatch, tmp_path, name):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path / name))
    (disk,) = (found for found in check.machine() if found.subject == "disk")
    assert disk.needed and not disk.ok and "set CHROMOLIB_RUNS" in disk.words


def test_a_gpu_that_pytorch_cannot_use_ends_the_check_with_1(monkeypatch):
    def refuse():
        raise StudyError("A100: PyTorch cannot use it: install a newer driver")

    monkeypatch.setattr(device, "choose", refuse)
    with pytest.raises(SystemExit, match="cannot run here"):
        check.main([])
    assert checked()["device"].words.endswith("newer driver")


def test_packages_are_compared_with_the_ranges_and_the_tested_versions():
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in ("numpy>=1", "nowhere>=2", "pandas>=99")]
    found = check._packages("train", wanted, {})
    assert found.needed and not found.ok
    assert re.match(r"nowhere>=2, pandas>=99 \(is [\d.]+\): .*\[train\]", found.words)
    other = check._packages("train", wanted[:1], {"numpy": "0.1"})
    assert other.ok and re.search(r"numpy [\d.]+ \(0\.1\)", other.words)
