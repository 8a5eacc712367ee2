"""Where a result comes from: code, versions and hardware."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
import warnings
from pathlib import Path

from chromolib import paths

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "pandas", "scikit-learn", "pillow", "safetensors")


def describe():
    """dict with `project` (commit, clean), `versions` (of Python and the packages that compute) and `hardware`."""
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"project": _project(), "versions": versions, "hardware": hardware()}


def hardware():
    """The machine: dict with device, processor, cores, threads, memory_gib (None where it cannot be asked)."""
    import torch  # a machine that only reads results has none

    from chromolib import device

    place = device.choose()
    return {
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
        "processor": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": memory_gib(),
        "bfloat16": device.has_fast_bfloat16(place),
    }


def now():
    """The time in UTC, as ISO 8601 text to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def cores():
    """How many processors this process may use; all of the machine's where the system gives a process no share."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def memory_gib():
    """The machine's memory in GiB; None where it cannot be asked."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _processor():
    with contextlib.suppress(OSError, StopIteration):  # Linux only; elsewhere platform knows
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor()


def _project():
    """The commit of the project and whether the tree was clean; None for each where git cannot say, and why."""
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != paths.ROOT.resolve():
            raise OSError("the project lies inside another repository, and has none of its own")
        return {"commit": _git("rev-parse", "HEAD"), "clean": not _git("status", "--porcelain")}
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (os.fsdecode(getattr(error, "stderr", "")) or str(error)).strip().splitlines()[0]
        warnings.warn(f"the commit of this code is not known: {reason}", stacklevel=3)
        return {"commit": None, "clean": None, "unknown": reason}


def _git(*words):
    """What git says of the project, whatever repository the environment names: in a hook, or for another project."""
    command = ["git", "-C", str(paths.ROOT), *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    found = subprocess.run(command, capture_output=True, check=True, env=environment | {"LC_ALL": "C"})
    return os.fsdecode(found.stdout).strip()  # as paths are decoded: by text=True a letter such as ü becomes another
