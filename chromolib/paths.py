"""Where things lie. Absolute, because papermill runs in the caller's folder and nbval in the notebook's."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PARAMETERS = ROOT / "parameters"
# To install an extra of pyproject.toml; constraints.txt is for Linux and Python 3.11.
_CONSTRAINED = sys.platform == "linux" and sys.version_info[:2] == (3, 11)
INSTALL = 'python -m pip install --editable ".[{}]"' + " --constraint constraints.txt" * _CONSTRAINED


def environment():
    """The environment of a process that is to use this copy of the library, whichever one is installed: dict."""
    others = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{others}" if others else str(ROOT)}


def _folder(variable, default):
    return Path(os.environ.get(variable) or ROOT / default).expanduser().resolve()


def data():
    """Folder with the data sets as downloaded: CHROMOLIB_DATA, or data/ in the project."""
    return _folder("CHROMOLIB_DATA", "data")


def weights():
    """Folder with ImageNet weights for work without a network: CHROMOLIB_WEIGHTS, or weights/ in the project."""
    return _folder("CHROMOLIB_WEIGHTS", "weights")


def cache():
    """Folder for squared images, safe to delete: CHROMOLIB_CACHE, or .cache/ in the project."""
    return _folder("CHROMOLIB_CACHE", ".cache")


def runs():
    """Folder with results: CHROMOLIB_RUNS, or runs/ in the project."""
    return _folder("CHROMOLIB_RUNS", "runs")
