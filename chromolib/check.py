"""What this machine has for the study, and what it lacks with the remedy: python -m chromolib check.

Ends with exit status 1 only where the study cannot run at all. Needs none of the packages that train.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tomllib
from typing import NamedTuple

from packaging.requirements import Requirement

from chromolib import datasets, paths, provenance
from chromolib.errors import StudyError

_GIB = 2**30
_MEMORY = 4  # GiB [ours]: of a training with its neighbour, as the demo has them on two cores
_DISK = 2  # GiB [ours]: the demo takes less than half of it


class Found(NamedTuple):
    """One line of the check."""

    subject: str
    ok: bool
    words: str  # what there is; or what is missing, and what to do
    needed: bool = False  # the study cannot run without


def everything():
    """Yield a `Found` for each thing that the study uses."""
    yield Found("python", sys.version_info >= (3, 11), f"{platform.python_version()} (3.11 or newer)", needed=True)
    yield from packages()
    yield from machine()
    if importlib.util.find_spec("torch"):
        yield processor()
        yield from weights()
    yield from data_sets()


def packages():
    """A line for what the project itself needs and for each of its extras, by pyproject.toml and constraints.txt."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (paths.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    for extra, texts in (project["optional-dependencies"] | {"read": project["dependencies"]}).items():
        yield _packages(extra, [Requirement(text) for text in texts], tested)


def _packages(extra, wanted, tested):
    subject, there, bad, other = f"packages, {extra}", {}, [], []
    for package in (package for package in wanted if package.name != "chromolib"):
        try:
            there[package.name] = version = importlib.metadata.version(package.name)
        except importlib.metadata.PackageNotFoundError:
            bad.append(str(package))
            continue
        if not package.specifier.contains(version, prereleases=True):
            bad.append(f"{package} (is {version})")
        elif version != tested.get(package.name, version):
            other.append(f"{package.name} {version} ({tested[package.name]})")
    if bad:
        needed = extra in ("read", "lesson", "train")
        return Found(subject, False, f"{', '.join(bad)}: {paths.INSTALL.format(extra)}", needed=needed)
    words = f"; others than those tested (in brackets): {', '.join(other)}" if other else ", as tested"
    return Found(subject, True, f"{len(there)}{words}")


def machine():
    """Lines on cores, memory and disk."""
    yield Found("cores", True, str(provenance.cores()))
    memory = provenance.memory_gib()
    if memory is None:
        yield Found("memory", True, "this system does not say how much")
    else:
        yield Found(
            "memory", memory >= _MEMORY, f"{memory} GiB" + _below(memory, _MEMORY, "train on fewer cores at once")
        )
    folder = next(folder for folder in (paths.runs(), *paths.runs().parents) if os.path.exists(folder))
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        words = f"results cannot be written to {paths.runs()}: set CHROMOLIB_RUNS to a folder that can"
        yield Found("disk", False, words, needed=True)
        return
    free = round(shutil.disk_usage(folder).free / _GIB, 1)
    remedy = _below(free, _DISK, "make room, or set CHROMOLIB_RUNS to a folder elsewhere")
    yield Found("disk", free >= _DISK, f"{free} GiB free in {folder}{remedy}", needed=True)


def _below(value, wanted, remedy):
    return "" if value >= wanted else f", less than {wanted}: {remedy}"


def processor():
    """What computes, as PyTorch sees it; a GPU that only nvidia-smi sees is missing."""
    from chromolib import device

    try:
        place = device.choose()
    except StudyError as error:
        return Found("device", False, str(error), needed=True)
    about = provenance.hardware()
    name = about["device"] if place.type == "cuda" else f"no GPU that PyTorch can use; the CPU: {about['processor']}"
    return Found("device", True, f"{name}; {'bf16' if about['bfloat16'] else 'fp32, as bf16 is not in hardware'}")


def weights():
    """A line for each network: whether its ImageNet weights are at hand without a network."""
    from chromolib import architectures

    for name, row in architectures.TABLE.items():
        there = architectures.at_hand(name)
        remedy = f"they are loaded when first used, or put {row.timm_name}.safetensors into {paths.weights()}"
        yield Found(f"weights, {name}", there, row.timm_name if there else remedy)


def data_sets():
    """A line for each data set: where it lies, or where to get it."""
    for name in datasets.names():
        try:
            place = datasets.find(name)
        except StudyError as error:
            yield Found(f"data, {name}", False, str(error))
        else:
            yield Found(f"data, {name}", True, "made on the spot" if place is None else str(place))


def main(arguments=None):
    """Print a line for each thing; exit status 1 where the study cannot run."""
    if sys.argv[1:] if arguments is None else arguments:
        sys.exit("usage: python -m chromolib check")
    lacking = 0
    for found in everything():
        print(f"{'ok' if found.ok else 'missing':8} {found.subject}: {found.words}")
        lacking += found.needed and not found.ok
    if lacking:
        sys.exit("The study cannot run here: see what is missing above.")
