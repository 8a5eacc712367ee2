"""Jobs on shared devices, as processes of their own: packed, kept apart, kept waiting, and freed by any death."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from chromolib import slots
from chromolib.errors import StudyError

JOB = """
import sys
from chromolib import slots
with slots.take(int(sys.argv[1])) as device:
    print(device, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def two_devices(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # so that TMPDIR is looked at again
    monkeypatch.setenv("CHROMOLIB_DEVICES", "2")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


@pytest.fixture
def job():
    """Start a process that takes so many slots, and holds them until it is let go or killed."""
    started = []

    def start(count):
        process = subprocess.Popen(
            [sys.executable, "-c", JOB, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def device(process):
    """What the job was given; waits until it has it."""
    return process.stdout.readline().strip()


def waiting(process):
    """Whether the job says that it waits; waits until it says so."""
    return "waiting" in process.stderr.readline()


def test_large_jobs_are_kept_on_devices_of_their_own_and_a_third_waits(job):
    first, second = job(4), job(4)
    assert {device(first), device(second)} == {"0", "1"}
    third = job(4)
    assert waiting(third)
    second.communicate("done\n")
    assert device(third) in "01"
    assert first.poll() is None


def test_small_jobs_are_spread_and_then_packed(job):
    small = [job(2) for _ in range(4)]
    assert sorted(device(process) for process in small) == ["0", "0", "1", "1"]
    assert waiting(job(1))


def test_a_large_job_is_alone_and_small_ones_share_the_other(job, monkeypatch):
    large = device(job(4))
    assert {device(job(1)) for _ in range(4)} == {"0", "1"} - {large}
    assert waiting(job(1))


def test_nobody_overtakes_the_one_who_waits(job):
    held = [job(3), job(3)]
    places = [device(process) for process in held]
    large = job(4)
    assert waiting(large)
    small = job(1)  # would fit beside the others
    held[0].communicate("done\n")
    assert device(large) == places[0]
    assert device(small) == places[1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_frees_its_slots(job, number):
    both = [job(4), job(4)]
    freed = device(both[0])
    device(both[1])
    heir = job(4)
    assert waiting(heir)
    both[0].send_signal(number)
    assert device(heir) == freed


def test_threads_of_one_process_share_them_too():
    order, enter = [], threading.Barrier(3)

    def work():
        with slots.take(4) as name:
            order.append(name)
            enter.wait()

    pair = [threading.Thread(target=work) for _ in range(2)]
    for thread in pair:
        thread.start()
    enter.wait(60)  # both are in at once
    for thread in pair:
        thread.join()
    assert sorted(order) == ["0", "1"]


def test_without_a_gpu_nothing_is_limited(monkeypatch, tmp_path):
    monkeypatch.delenv("CHROMOLIB_DEVICES")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with slots.take(4) as first, slots.take(4) as second:
        assert first is second is None
    assert not list(tmp_path.iterdir())


def test_in_a_slurm_job_with_one_gpu_the_cluster_has_chosen(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CHROMOLIB_DEVICES", "1")
    with slots.take(4) as first, slots.take(4) as second:
        assert first is second is None


@pytest.mark.parametrize(
    ("visible", "expected"), [("3", ["3"]), ("2,0", ["2", "0"]), ("GPU-5c7e, 1", ["GPU-5c7e", "1"]), ("-1", [])]
)
def test_devices_are_those_that_are_visible(monkeypatch, visible, expected):
    monkeypatch.delenv("CHROMOLIB_DEVICES")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert slots.devices() == expected


@pytest.mark.parametrize("listed", [0, 1, 3])
def test_devices_are_those_that_nvidia_smi_lists(monkeypatch, tmp_path, listed):
    monkeypatch.delenv("CHROMOLIB_DEVICES")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    lines = "".join(f"echo 'GPU {number}: NVIDIA H100 (UUID: GPU-{number})'\n" for number in range(listed))
    program.write_text(f'#!/bin/sh\ntest "$1" = -L || exit 1\n{lines or "echo No devices were found"}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert slots.devices() == [str(number) for number in range(listed)]


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"chromolib-slots-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="belongs to somebody else"), slots.take(1):
        pass


@pytest.mark.parametrize("count", [0, 5])
def test_impossible_counts(count):
    with pytest.raises(StudyError, match="1 to 4"), slots.take(count):
        pass
