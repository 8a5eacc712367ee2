"""What happens to a training run when processes die: killed, interrupted, started twice, copied elsewhere.

Each test runs the real runner, in processes of its own, on drawings of 32 pixels. They wait for files to appear, never
for time to pass.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest

from chromolib import execute, files, paths, runs

DEADLINE = 1200  # seconds for anything that is waited for: far more than it takes
EPOCHS = 6
RUN = Path("smoke", "q_band", "efficientnet_lite0", "scratch")

pytestmark = pytest.mark.slow


def wait_for(condition):
    """Wait until a condition holds, and return what it gave."""
    for _ in range(100 * DEADLINE):
        found = condition()
        if found:
            return found
        threading.Event().wait(0.01)
    pytest.fail(f"waited {DEADLINE} seconds in vain")


class Study:
    """A place for results, and the command that trains one run into it."""

    def __init__(self, folder, notebooks):
        self.folder, self.path = folder, folder / "runs" / RUN
        self.environment = os.environ | {
            "CHROMOLIB_RUNS": str(folder / "runs"),
            "CHROMOLIB_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        program = (
            "from pathlib import Path; from chromolib import execute, parameters, paths; "
            f"paths.NOTEBOOKS = parameters.NOTEBOOKS = Path({str(notebooks)!r}); execute.main()"
        )
        names = {"task": "q_band", "approach": "scratch", "start": "random", "folds": "[0]", "image_size": 32}
        names |= {"batch_size": 64, "adam_epochs": EPOCHS - 2, "sgd_epochs": 2}
        words = [word for name, value in names.items() for word in ("-p", name, str(value))]
        self.command = [sys.executable, "-c", program, "03_training", str(self.path / "training.ipynb"), *words]

    def start(self):
        return subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def start_and_wait_for_an_epoch(self):
        """A runner in the middle of an epoch after one that it saved itself, and its kernel."""
        before = self._saved()
        runner = self.start()
        wait_for(lambda: self._saved() != before or runner.poll() is not None)
        assert runner.poll() is None, runner.communicate()[0]
        (kernel,) = psutil.Process(runner.pid).children()
        return runner, kernel

    def _saved(self):
        with contextlib.suppress(FileNotFoundError):
            return (self.path / "resume" / "fold0.pt").stat().st_mtime_ns

    def finish(self):
        """Run to the end; the digest of the weights."""
        runner = self.start()
        output = runner.communicate()[0]
        assert runner.returncode == 0, output
        return runs.record(self.path)["files"]["fold0.safetensors"]


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    """Notebook 03 without what only shows something: the cells that check, train and finish."""
    notebook = nbformat.read(paths.NOTEBOOKS / "03_training.ipynb", 4)
    needed = re.compile(r"parameters\.check|trainer\.Run\(|run\.train\(|run\.finish\(")
    training = "from chromolib import training\nimport pandas as pd\ntraining.STATE_SECONDS = 0\n"
    kept = []
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []) or needed.search(cell.source):
            kept.append(cell)
            if "parameters.check" in cell.source:
                cell.source += f"\n{training}"
    notebook.cells = kept
    folder = tmp_path_factory.mktemp("notebooks")
    for file in paths.NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(file, folder)
    nbformat.write(notebook, folder / "03_training.ipynb")
    return folder


@pytest.fixture
def study(tmp_path, notebooks):
    return Study(tmp_path, notebooks)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, notebooks):
    """A study that ran to its end in one go, and the digest of its weights."""
    study = Study(tmp_path_factory.mktemp("uninterrupted"), notebooks)
    return study, study.finish()


def gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.fault(1)
def test_a_kernel_killed_within_an_epoch_costs_that_epoch_and_no_bit(study, uninterrupted):
    runner, kernel = study.start_and_wait_for_an_epoch()
    kernel.kill()
    output = runner.communicate()[0]
    assert runner.returncode == 1
    assert "the kernel was killed" in output
    assert not (study.path / "run.json").exists()
    resumed, (_, whole) = study.finish(), uninterrupted
    print(f"sha256 of the weights: killed and resumed {resumed}, uninterrupted {whole}")  # shown by pytest -rP
    assert resumed == whole
    record = runs.record(study.path)
    assert record["sessions"] == 2
    assert files.sha256(study.path / "fold0.safetensors") == record["files"]["fold0.safetensors"]


def test_run_all_again_shows_the_results_and_trains_nothing(uninterrupted):
    study, _ = uninterrupted
    kept = sorted(file for file in study.path.rglob("*") if file.is_file() and file.name != "training.ipynb")
    before = [(file, file.stat().st_mtime_ns, files.sha256(file)) for file in kept]
    study.finish()
    after = sorted(file for file in study.path.rglob("*") if file.is_file() and file.name != "training.ipynb")
    assert [(file, file.stat().st_mtime_ns, files.sha256(file)) for file in after] == before
    assert "epoch 1/" not in (study.path / "training.ipynb").read_text()


@pytest.mark.fault(2)
def test_signals_stop_it_with_a_status_of_their_own_and_leave_no_process(study):
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        runner, kernel = study.start_and_wait_for_an_epoch()
        runner.send_signal(number)
        output = runner.communicate()[0]
        assert runner.returncode == execute.INTERRUPTED, output
        assert output.splitlines()[-1] == "03_training: interrupted; started again, the run goes on where it was"
        assert gone(kernel)
        assert (study.path / "resume" / "fold0.pt").exists()
    sessions = json.loads((study.path / "resume" / "session.json").read_text())["sessions"]
    assert sessions == 3  # each went on where the one before was stopped


@pytest.mark.fault(3, 27)
def test_a_runner_killed_and_restarted_at_once_respects_the_kernel_that_still_lives(study):
    runner, kernel = study.start_and_wait_for_an_epoch()
    kernel.suspend()  # or it would be gone within a second
    runner.kill()
    runner.wait()  # not for the end of its output, which the kernel shares
    runner.stdout.close()
    second = study.start()
    output = second.communicate()[0]
    assert second.returncode == 1
    assert output.count("another process is working on this run") == 1
    assert "Traceback" not in output
    kernel.resume()
    wait_for(lambda: gone(kernel))
    third, _ = study.start_and_wait_for_an_epoch()
    third.terminate()
    assert third.wait() == execute.INTERRUPTED


# The graph


def snakemake(folder, *words, **options):
    """The command that runs Snakemake with results and bookkeeping in `folder`, started."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(paths.ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--cores", "1", *words, "--config", "profile=smoke"]
    environment = os.environ | {"CHROMOLIB_RUNS": str(folder / "runs"), "CHROMOLIB_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def done(process):
    """What a command printed, after an exit status of 0."""
    output = process.communicate()[0]
    assert process.returncode == 0, output[-4000:]
    return output


PARENT = Path("runs", "smoke", "g_band", "efficientnet_lite0", "scratch", "run.json")
CHILD = Path("runs", "smoke", "q_band", "efficientnet_lite0", "intermediate", "run.json")


@pytest.fixture(scope="module")
def killed_and_recovered(tmp_path_factory):
    """A parent that is trained, and its child, within whose training Snakemake is killed; then what README says.

    Returns the folder, and the time of the parent's run.json before Snakemake was killed.
    """
    folder = tmp_path_factory.mktemp("killed")
    engine = snakemake(folder, str(folder / CHILD))
    wait_for(lambda: (folder / CHILD).parent.joinpath("resume", "session.json").exists() or engine.poll() is not None)
    survivors = psutil.Process(engine.pid).children(recursive=True)
    engine.kill()
    engine.stdout.close()
    time = (folder / PARENT).stat().st_mtime_ns
    runners = [process for process in survivors if "chromolib.execute" in process.cmdline()]
    assert runners  # Snakemake's end does not end them: pkill -f chromolib.execute
    for runner in runners:
        runner.terminate()
    wait_for(lambda: all(gone(process) for process in survivors))
    done(snakemake(folder, "--unlock"))
    done(snakemake(folder, str(folder / CHILD), "--rerun-incomplete"))
    return folder, time


@pytest.mark.fault(4)
def test_snakemake_killed_trains_nothing_again_that_was_finished(killed_and_recovered):
    folder, time = killed_and_recovered
    assert (folder / PARENT).stat().st_mtime_ns == time
    assert runs.record((folder / PARENT).parent)["sessions"] == 1
    assert runs.record((folder / CHILD).parent)["sessions"] == 2
    assert set(runs.verify(folder / "runs", "smoke")["state"]) == {"ok"}


@pytest.mark.fault(29)
def test_results_copied_elsewhere_are_not_trained_again(killed_and_recovered, tmp_path):
    folder, _ = killed_and_recovered
    with_times, without = tmp_path / "with", tmp_path / "without"
    shutil.copytree(folder / "runs", with_times / "runs")
    assert "Nothing to be done" in done(snakemake(with_times, "--dry-run", str(with_times / CHILD)))

    shutil.copytree(folder / "runs", without / "runs")
    os.utime(without / PARENT)  # a copy without the times: here the parent was written after its child
    assert "train " in done(snakemake(without, "--dry-run", str(without / CHILD)))
    names = ("run.json", "training.ipynb", "fold0.safetensors")
    content = {file: files.sha256(file) for run in (PARENT, CHILD) for file in map((without / run).with_name, names)}
    done(snakemake(without, "--touch"))
    plan = done(snakemake(without, "--dry-run"))
    assert re.search(r"^train +6$", plan, re.MULTILINE)  # of the eight, those that were never trained
    assert {file: files.sha256(file) for file in content} == content


@pytest.mark.fault(23, 30)
def test_statistics_on_an_incomplete_grid_are_labelled_partial(tmp_path, monkeypatch):
    """The real reference results, without one of their runs: as if it had stopped with a loss that is no number."""
    shutil.copytree(paths.ROOT / "runs" / "reference" / "mini", tmp_path / "mini")
    shutil.rmtree(tmp_path / "mini" / "q_band" / "efficientnet_lite0" / "two_step")
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))
    output = tmp_path / "04_statistics.ipynb"
    execute.run("04_statistics", output, {"profile": "mini", "bootstrap_draws": 100})
    text = output.read_text()
    assert "14 of 16 trainings are finished" in text and "GRID: PARTIAL; 1 runs are missing" in text
    assert "grid: whole" not in text
    for name in ("table2_performance", "table3_architectures", "table4_approaches", "gains"):
        assert set(pd.read_csv(tmp_path / "mini" / "tables" / f"{name}.csv")["grid"]) == {"partial"}, name


def test_every_fault_is_injected_by_a_test(faults):
    text = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    marks = re.findall(r"mark\.fault\(([\d, ]+)\)", text)
    assert {int(number) for mark in marks for number in mark.split(",")} == set(faults) == set(range(1, 31))
