"""The graph on a real Slurm of one node: a run is cancelled, another one warned of its end, and all are completed.

`tests/slurm.sh start` starts that Slurm, as root. Without it these tests are skipped, except in continuous integration.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from chromolib import paths

SNAKEMAKE = [sys.executable, "-m", "snakemake", "--snakefile", str(paths.ROOT / "Snakefile")]
PROFILE = ["--profile", str(paths.ROOT / "workflow" / "profiles" / "slurm")]
TINY = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
TRAININGS = {  # the comment that Snakemake gives a Slurm job, and the run it makes
    f"rule_train_wildcards_{task}_efficientnet_lite0_{approach}": f"{task}/efficientnet_lite0/{approach}"
    for task in ("q_band", "g_band")
    for approach in ("imagenet", "two_step")
}
TARGETS = ["tables/data.csv", *(f"{run}/run.json" for run in TRAININGS.values())]  # of notebooks 1 and 3
CANCELLED = "rule_train_wildcards_q_band_efficientnet_lite0_two_step"
WARNED = "rule_train_wildcards_g_band_efficientnet_lite0_two_step"
HARM = {CANCELLED: ["scancel"], WARNED: ["scancel", "--signal=USR1"]}  # the second is what a time limit sends
DEADLINE = 1800  # seconds; the machine may be busy with other tests

pytestmark = pytest.mark.slow


def output(*command):
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def cluster():
    """Skips where the test cluster is absent: a user's own cluster is never used."""
    if shutil.which("scontrol") and "= chromolib-test\n" in subprocess.getoutput("scontrol show config"):
        return
    reason = "the Slurm of tests/slurm.sh is not running"
    pytest.fail(reason) if os.environ.get("CHROMOLIB_REQUIRE_SLURM") else pytest.skip(reason)


def snakemake(folder, **options):
    """Start TARGETS of the smoke study on the cluster; results and bookkeeping in `folder`."""
    where = ["--directory", str(folder), "--config", "profile=smoke"]
    targets = [str(folder / "runs" / "smoke" / target) for target in TARGETS]
    command = [*SNAKEMAKE, *targets, *PROFILE, *TINY, *where]
    environment = os.environ | {"CHROMOLIB_RUNS": str(folder / "runs"), "CHROMOLIB_CACHE": str(folder / "cache")}
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.STDOUT, **options)


def jobs(log):
    """The Slurm jobs that Snakemake has submitted, by its log: number, state and comment of each."""
    names = [line.split()[-1] for line in log.read_text().splitlines() if line.startswith("SLURM run ID:")]
    command = ["squeue", "--noheader", "--states=all", "--format=%i|%T|%k", f"--name={','.join(names)}"]
    return [line.split("|") for line in output(*command).splitlines()] if names else []


def finished(folder):
    """The finished runs and their records, which name the time. (Snakemake sets the files' own times later.)"""
    return {path: path.read_text() for path in folder.glob("runs/smoke/*/*/*/run.json")}


def do_harm(folder, log, process):
    """Stop each run of HARM while its notebook runs; the runs that were finished before the first."""
    waiting, before, deadline = dict(HARM), None, time.monotonic() + DEADLINE
    while waiting:
        assert process.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        for number, state, comment in jobs(log):
            notebook = folder / "runs" / "smoke" / TRAININGS.get(comment, "") / "training.ipynb"
            if comment in waiting and state == "RUNNING" and notebook.exists():
                before = before or finished(folder)
                output(*waiting.pop(comment), number)
        time.sleep(0.2)
    return before


@pytest.fixture(scope="module")
def study(cluster, tmp_path_factory):
    """The study at smoke size, with two runs stopped: its folder, log, and what was finished before."""
    folder = tmp_path_factory.mktemp("slurm")
    log = folder / "snakemake.log"
    with open(log, "w") as stream:
        process = snakemake(folder, stdout=stream)
        try:
            before = do_harm(folder, log, process)
            status = process.wait(DEADLINE)
        finally:
            process.send_signal(signal.SIGINT)  # cancels what is still in the queue
    assert status == 0, log.read_text()[-4000:]
    return folder, log, before


def test_the_study_is_completed(study):
    folder, _, _ = study
    assert len(finished(folder)) == len(TRAININGS)
    assert all((folder / "runs" / "smoke" / target).is_file() for target in TARGETS)


def test_two_jobs_were_stopped_and_only_they_were_done_again(study):
    _, log, _ = study
    ends = Counter((comment, state) for _, state, comment in jobs(log) if comment in TRAININGS)
    assert ends == Counter(
        {(comment, "COMPLETED"): 1 for comment in TRAININGS} | {(CANCELLED, "CANCELLED"): 1, (WARNED, "FAILED"): 1}
    )


def test_what_was_finished_was_left_alone(study):
    folder, _, before = study
    assert before  # two_step has a parent, so a run is finished when it begins
    assert before.items() <= finished(folder).items()


def test_a_warned_run_says_that_it_goes_on(study):
    folder, log, _ = study
    (number,) = [number for number, state, comment in jobs(log) if (comment, state) == (WARNED, "FAILED")]
    (words,) = folder.glob(f".snakemake/slurm_logs/rule_train/*/{number}.log")
    assert "interrupted; started again, the run goes on" in words.read_text()


def test_nothing_is_left_to_do(study):
    process = snakemake(study[0], stdout=subprocess.PIPE)
    assert "Nothing to be done" in process.communicate()[0]
    assert process.returncode == 0
