"""Where a result comes from: code, versions and hardware."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import warnings
from pathlib import Path

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
    """The commit of the project and whether the tree was clean; None for each where git cannot say, and why."""
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != paths.ROOT.resolve():
            raise OSError("the project lies inside another repository, and has none of its own")
        return {"commit": _git("rev-parse", "HEAD"), "clean": not _git("status", "--porcelain")}
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[0]
        warnings.warn(f"the commit of this code is not known: {reason}", stacklevel=3)
        return {"commit": None, "clean": None, "unknown": reason}


def _git(*words):
    """What git says of the project, whatever repository the environment names: in a hook, or for another project."""
    command = ["git", "-C", str(paths.ROOT), *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment | {"LC_ALL": "C"})
    return found.stdout.strip()
