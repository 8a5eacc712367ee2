"""Where a result comes from: code, versions and hardware."""

import datetime
import importlib.metadata
import platform
import subprocess

from chromolib import device, paths

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "pandas", "scikit-learn", "pillow", "safetensors")


def describe():
    """dict with `project` (commit, clean), `versions` (of Python and the packages that compute) and `hardware`."""
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"project": _project(), "versions": versions, "hardware": device.describe()}


def now():
    """The time in UTC, as ISO 8601 text to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _project():
    """The commit of the project and whether the tree was clean; None for each where git cannot say."""
    try:
        return {"commit": _git("rev-parse", "HEAD"), "clean": not _git("status", "--porcelain")}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "clean": None}


def _git(*words):
    command = ["git", "-C", str(paths.ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
