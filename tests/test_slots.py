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
from pathlib import Path
from chromolib import slots
slots._TEMPORARY = Path(sys.argv[2])
with slots.take(int(sys.argv[1])) as device:
    print(device, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def two_devices(tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "_TEMPORARY", tmp_path)
    monkeypatch.setenv("CHROMOLIB_DEVICES", "2")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    slots.needed.cache_clear()


@pytest.fixture
def job(tmp_path):
    """Start a process that takes so many slots, and holds them until it is let go or killed."""
    started = []

    def start(count):
        process = subprocess.Popen(
            [sys.executable, "-c", JOB, str(count), str(tmp_path)],
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


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """A forged nvidia-smi: what it lists, and what it says of memory in MiB (UUID, all, free)."""

    def forge(listed, memory=""):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nif [ $1 = -L ]; then echo '{listed}'; else echo '{memory}'; fi\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.delenv("CHROMOLIB_DEVICES")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return forge


TWO = "GPU 0: NVIDIA H100 (UUID: GPU-5c7e)\nGPU 1: NVIDIA H100 (UUID: GPU-91ab)"
DIVIDED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c7e)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6f0)
  MIG 1g.5gb      Device  1: (UUID: MIG-d001)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-91ab)"""


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("3", ["3"]), ("2,0", ["2", "0"]), ("GPU-5c7e, 1", ["GPU-5c7e", "1"]), ("-1", []), ("NoDevFiles", [])],
)
def test_without_nvidia_smi_devices_are_those_that_are_visible(monkeypatch, tmp_path, visible, expected):
    monkeypatch.delenv("CHROMOLIB_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert slots.devices() == expected


@pytest.mark.parametrize(
    ("listed", "visible", "expected"),
    [
        ("No devices were found", None, []),
        (TWO, None, ["GPU-5c7e", "GPU-91ab"]),
        (TWO, "1,0", ["GPU-91ab", "GPU-5c7e"]),  # numbers are nvidia-smi's, by PCI bus
        (TWO, "0,-1", ["GPU-5c7e"]),
        (TWO, "0,-1,1", ["GPU-5c7e"]),  # CUDA reads up to the first that does not exist
        (TWO, "0,7,1", ["GPU-5c7e"]),
        (TWO, "GPU-91,GPU-5c7e", ["GPU-91ab", "GPU-5c7e"]),
        (TWO, "", []),
        (DIVIDED, None, ["MIG-c6f0", "MIG-d001", "GPU-91ab"]),
        (DIVIDED, "0,1", ["MIG-c6f0", "GPU-91ab"]),
        (DIVIDED, "MIG-d001", ["MIG-d001"]),
    ],
)
def test_a_gpu_has_one_name_however_it_is_given(smi, monkeypatch, listed, visible, expected):
    smi(listed)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert slots.devices() == expected


def test_jobs_share_a_gpu_whatever_each_calls_it(smi, monkeypatch, job):
    smi(TWO)
    first = device(job(4))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", {"GPU-5c7e": "0", "GPU-91ab": "1"}[first])
    assert waiting(job(1))


def test_jobs_share_a_gpu_whatever_tmpdir_each_has(monkeypatch, tmp_path):
    places = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        monkeypatch.setattr("tempfile.tempdir", None)  # so that TMPDIR is looked at again
        places.append(slots._folder())
    assert places[0] == places[1]


def test_a_gpu_that_a_stranger_has_filled_comes_last(smi):
    smi(TWO, "GPU-5c7e, 81559, 22000\nGPU-91ab, 81559, 80900")
    taken = []
    with slots.take(1) as first, slots.take(1) as second, slots.take(1) as third, slots.take(2) as fourth:
        taken += [first, second, third, fourth]
    assert taken == ["GPU-91ab"] * 3 + ["GPU-5c7e"]  # there is half of what two slots have of the memory


def test_a_gpu_that_a_stranger_has_filled_is_waited_for(smi, job):
    smi(TWO, "GPU-5c7e, 81559, 300\nGPU-91ab, 81559, 80900")
    assert device(job(4)) == "GPU-91ab"
    assert waiting(job(1))


def test_nvidia_smi_that_hangs_is_said(monkeypatch):
    def hang(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    monkeypatch.delenv("CHROMOLIB_DEVICES")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(StudyError, match=r"does not answer.*CUDA_VISIBLE_DEVICES="), slots.take(4):
        pass
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the remedy that the message names
    assert slots.devices() == []


@pytest.mark.parametrize(
    ("memory", "count", "gib", "expected"),
    [
        ("GPU-5c7e, 81559, 80000\nGPU-91ab, 81559, 200", 1, 5, 1),  # of 79.6 GiB
        ("GPU-5c7e, 81559, 80000\nGPU-91ab, 81559, 200", 2, 27, 2),
        ("GPU-5c7e, 81559, 80000\nGPU-91ab, 15360, 200", 1, 5, 2),  # of 15 GiB, a slot has 3.75
        ("GPU-5c7e, 8192, 8000\nGPU-91ab, 8192, 200", 1, 27, 4),
        ("GPU-5c7e, [N/A], [N/A]\nGPU-91ab, [N/A], [N/A]", 2, 27, 2),
    ],
)
def test_slots_go_by_the_memory_that_gpus_have(smi, memory, count, gib, expected):
    smi(TWO, memory)
    assert slots.needed(count, gib) == expected


def test_a_mig_instance_is_not_shared(smi):
    smi(DIVIDED)
    assert slots.needed(1, 4) == slots.SLOTS


def test_without_a_gpu_a_job_wants_what_it_wants():
    assert slots.needed(2, 27) == 2


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"chromolib-slots-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="belongs to somebody else"), slots.take(1):
        pass


@pytest.mark.parametrize("count", [0, 5])
def test_impossible_counts(count):
    with pytest.raises(StudyError, match="1 to 4"), slots.take(count):
        pass
