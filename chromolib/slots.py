"""The GPUs of this machine, shared between the jobs of one user without a scheduler: each has four slots.

A slot is a locked file, so it is free again when its process ends, in whatever way. Jobs of other
users are seen by the memory that they take.
"""

import getpass
import itertools
import logging
import math
import os
import re
import subprocess
import tempfile
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import quote

from chromolib import files
from chromolib.errors import StudyError

SLOTS = 4  # of a device: the finest share of it that a job can ask for [ours]
NAME = re.compile(r"\d|GPU-|MIG-")  # how a GPU's begins; any other, as -1 or Slurm's NoDevFiles, hides what follows
_PAUSE = 0.5  # seconds between two looks
_TEMPORARY = Path("/tmp" if os.name == "posix" else tempfile.gettempdir())  # TMPDIR may differ from job to job


@contextmanager
def take(count=1):
    """Hold `count` of the slots of one device, and yield the device as text for CUDA_VISIBLE_DEVICES.

    Of the devices with enough free slots, and at least half of their share of the memory, it is the
    one with the most slots whose share is free. Where there is none, it waits; jobs are served in
    turn, so that small ones do not overtake a large one for ever. Yields None, and limits nothing,
    on a machine without GPUs, and in a Slurm job with one GPU, which the cluster has chosen. StudyError for a count
    outside 1 to 4.
    """
    if not 1 <= count <= SLOTS:
        raise StudyError(f"slots: {count} of a GPU cannot be taken; a GPU has {SLOTS}, so ask for 1 to {SLOTS}")
    names = devices()
    if not names or ("SLURM_JOB_ID" in os.environ and len(names) == 1):
        yield None
        return
    folder = _folder()
    queue = files.lock(folder / "queue", wait=-1)  # held while waiting: who comes later waits here
    try:
        device, held = _wait(folder, names, count)
    finally:
        queue.release()
    try:
        yield device
    finally:
        _release(held)


@cache
def needed(count, gib):
    """Slots of a job that wants `count` and needs so many GiB: more, where that is more of the smallest GPU's memory.

    At most all four: a batch that does not fit goes through the network in parts. A MIG instance is
    not shared.
    """
    names, memory = devices(), _memory()
    if any(name.startswith("MIG-") for name in names):
        return SLOTS
    least = min((memory[name][0] for name in names if name in memory), default=math.inf)
    return max(count, min(SLOTS, math.ceil(SLOTS * gib / least)))


def devices():
    """Names of the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES; empty where there are none.

    They are those of CUDA_VISIBLE_DEVICES where it is set, up to the first that does not exist, as
    CUDA reads it; a number is nvidia-smi's. Else they are all that nvidia-smi lists; of a GPU that
    is divided, its MIG instances. The names are UUIDs, so that a GPU has one name whoever asks.
    CHROMOLIB_DEVICES, a number, puts as many imagined ones in their place: to try the packing
    without a GPU.
    """
    imagined, visible = os.environ.get("CHROMOLIB_DEVICES"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if imagined:
        return [str(number) for number in range(int(imagined))]
    gpus = _listed() if visible != "" else []
    if visible is None:
        return [name for gpu in gpus for name in gpu[1:] or gpu]
    names = (name.strip() for name in visible.split(","))
    if gpus:
        names = (_full_name(name, gpus) for name in names)
    return list(dict.fromkeys(itertools.takewhile(lambda name: name and NAME.match(name), names)))


def nvidia_smi(*options):
    """What NVIDIA's tool prints; nothing where there is none. StudyError where it hangs, as a GPU is not told then."""
    try:
        return subprocess.run(["nvidia-smi", *options], capture_output=True, text=True, timeout=60).stdout
    except subprocess.TimeoutExpired as error:
        raise StudyError(
            "nvidia-smi does not answer within a minute, so a GPU or its driver hangs: restart it, or set "
            "CUDA_VISIBLE_DEVICES= to compute on the CPU"
        ) from error
    except OSError:
        return ""


def _listed():
    """Of each GPU in nvidia-smi's order its UUID, and those of its MIG instances: a list of lists."""
    gpus = []
    for kind, uuid in re.findall(r"^ *(GPU|MIG) .*\(UUID: ([^)]+)\)", nvidia_smi("-L"), re.MULTILINE):
        gpus.append([uuid]) if kind == "GPU" else gpus[-1].append(uuid)
    return gpus


def _full_name(name, gpus):
    """The UUID of a GPU that is given by number, or by the beginning of its UUID; None for one that does not exist."""
    for number, (gpu, *parts) in enumerate(gpus):
        first = parts[0] if parts else gpu
        for uuid, found in ((gpu, first), *zip(parts, parts, strict=True)):
            if name == str(number) or (name[:4] in ("GPU-", "MIG-") and uuid.startswith(name)):
                return found
    return None


def _memory():
    """GiB of memory of each GPU, all and free now, by its UUID: dict of pairs."""
    table = nvidia_smi("--query-gpu=uuid,memory.total,memory.free", "--format=csv,noheader,nounits")
    rows = re.findall(r"^(.+), (\d+), (\d+)$", table, re.MULTILINE)  # "[N/A]" where a GPU shares the CPU's memory
    return {uuid: (int(whole) / 1024, int(free) / 1024) for uuid, whole, free in rows}


def _folder():
    """The user's own folder for the files of the slots, the same for every process."""
    folder = _TEMPORARY / f"chromolib-slots-{getattr(os, 'getuid', getpass.getuser)()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = folder.stat().st_uid
    if folder.is_symlink() or owner != getattr(os, "getuid", lambda: owner)():  # Windows has a folder for each user
        raise StudyError(f"{folder}: belongs to somebody else, who must remove it; jobs that share GPUs need it")
    return folder


def _wait(folder, names, count):
    """The device and the locks of its slots, as soon as one has so many free slots."""
    told = False
    while True:
        free, memory = {name: _free(folder, name) for name in names}, _memory()
        ranks = {name: _rank(len(free[name]), count, *memory.get(name, (1, 1))) for name in names}
        best = max(names, key=ranks.get)
        held, (fits, *_) = free.pop(best), ranks[best]
        for others in (*free.values(), held[count:]):
            _release(others)
        if fits:
            return best, held[:count]
        _release(held)
        if not told:
            logging.getLogger(__name__).warning("no GPU has %d free slots with memory for them; waiting", count)
            told = True
        time.sleep(_PAUSE)


def _rank(slots, count, whole, free):
    """What to go by among devices: first whether slots and memory suffice, then how many slots have memory too.

    Half of a share suffices: a screen takes some of it, and what does not fit goes through the network in parts.
    """
    return slots >= count and 2 * SLOTS * free >= count * whole, min(slots, round(SLOTS * free / whole)), slots


def _free(folder, name):
    """Locks on the slots of a device that nobody else holds."""
    names = (f"{quote(name, safe='')}.{number}" for number in range(SLOTS))
    return [lock for lock in (files.lock(folder / name) for name in names) if lock]


def _release(held):
    for lock in held:
        lock.release()
