"""The GPUs of this machine, shared between the jobs of one user without a scheduler: each has four slots.

A slot is a locked file, so it is free again when its process ends, in whatever way. Jobs of other users are not seen.
"""

import getpass
import logging
import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from chromolib import files
from chromolib.errors import StudyError

SLOTS = 4  # of a device: the finest share of it that a job can ask for [ours]
_PAUSE = 0.5  # seconds between two looks


@contextmanager
def take(count=1):
    """Hold `count` of the slots of one device, and yield the device as text for CUDA_VISIBLE_DEVICES.

    Of the devices with enough free slots it is the one with the most. Where there is none, it waits; jobs are served
    in turn, so that small ones do not overtake a large one for ever. Yields None, and limits nothing, on a machine
    without GPUs, and in a Slurm job with one GPU, which the cluster has chosen. StudyError for a count outside 1 to 4.
    """
    if not 1 <= count <= SLOTS:
        raise StudyError(f"slots: {count} of a GPU cannot be taken; a GPU has {SLOTS}, so ask for 1 to {SLOTS}")
    names = devices()
    if not names or ("SLURM_JOB_ID" in os.environ and len(names) == 1):
        yield None
        return
    folder = _folder()
    queue = files.lock(folder / "queue", wait=True)  # held while waiting: who comes later waits here
    try:
        device, held = _wait(folder, names, count)
    finally:
        queue.release()
    try:
        yield device
    finally:
        _release(held)


def devices():
    """Names of the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES; empty where there are none.

    They are those of CUDA_VISIBLE_DEVICES where it is set, and else all that nvidia-smi lists. CHROMOLIB_DEVICES, a
    number, puts as many imagined ones in their place: to try the packing without a GPU.
    """
    imagined, visible = os.environ.get("CHROMOLIB_DEVICES"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if imagined:
        return [str(number) for number in range(int(imagined))]
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except OSError:
        return []
    return [str(number) for number, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


def _folder():
    """The user's own folder for the files of the slots, the same for every process."""
    folder = Path(tempfile.gettempdir()) / f"chromolib-slots-{getattr(os, 'getuid', getpass.getuser)()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = folder.stat().st_uid
    if folder.is_symlink() or owner != getattr(os, "getuid", lambda: owner)():  # Windows has a folder for each user
        raise StudyError(f"{folder}: belongs to somebody else; set TMPDIR to a folder of your own")
    return folder


def _wait(folder, names, count):
    """The device and the locks of its slots, as soon as one has so many free slots."""
    told = False
    while True:
        free = {name: _free(folder, name) for name in names}
        best = max(names, key=lambda name: len(free[name]))
        held = free.pop(best)
        for others in (*free.values(), held[count:]):
            _release(others)
        if len(held) >= count:
            return best, held[:count]
        _release(held)
        if not told:
            logging.getLogger(__name__).warning("no GPU has %d free slots; waiting", count)
            told = True
        time.sleep(_PAUSE)


def _free(folder, name):
    """Locks on the slots of a device that nobody else holds."""
    names = (f"{quote(name, safe='')}.{number}" for number in range(SLOTS))
    return [lock for lock in (files.lock(folder / name) for name in names) if lock]


def _release(held):
    for lock in held:
        lock.release()
