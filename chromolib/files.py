"""Files that are either whole or absent, their digests, and locks."""

import errno
import fnmatch
import hashlib
import os
import tempfile
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
from safetensors import SafetensorError

from chromolib.errors import StudyError

PART = ".part."  # begins the name of a file that is being written
IN_PLACE = {  # what a download may leave in place of a file: how it begins, in small letters
    "a web page": (b"<!doctype", b"<html", b"<?xml"),
    "a Git LFS pointer (fetch the file with `git lfs pull`)": b"version https://git-lfs",
}
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # by a file system
_FAILURES = (OSError, RuntimeError, SafetensorError)  # of plain Python, of torch and of safetensors on a full disk


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; on success it replaces `path` at once, on failure nothing is left.

    The content and the folder entry are flushed to disk first, so that a power cut leaves the old
    file or the new one, never a half. The caller writes the temporary path and closes it.
    StudyError where the disk is full or read-only.
    """
    path = Path(path)
    try:
        yield from _replacing(path)
    except _FAILURES as error:
        raise StudyError(
            f"{path}: cannot be written ({error}); what was there before is kept. Make room, or name another folder"
        ) from error


def write(path, text):
    """Write a text in UTF-8, its lines ended alike on every system, as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _replacing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{PART}{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)  # Windows flushes only what may be written
        umask = os.umask(0)
        os.umask(umask)
        with suppress(PermissionError):  # of a file system that knows no modes
            temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; results are for others too
        os.replace(temporary, path)
        with suppress(OSError):  # the new file is in its place by now; Windows cannot open a folder
            _flush(path.parent, os.O_RDONLY)
    finally:
        temporary.unlink(missing_ok=True)


def clear_parts(folder):
    """Delete what a killed process had half written in a folder, and below; for the one who alone writes there."""
    for part in Path(folder).rglob(f"{PART}*"):
        part.unlink()


def matching(folder, pattern):
    """Sorted paths below a folder that match a pattern such as "*/*/run.json"; none where the folder is absent.

    What a killed process had half written is passed over. StudyError for a folder that cannot be read, which pathlib's
    glob passes over without a word.
    """
    first, _, rest = pattern.partition("/")
    try:
        names = sorted(name for name in fnmatch.filter(os.listdir(folder), first) if not name.startswith(PART))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StudyError(f"{folder}: cannot be read ({error.strerror}); give yourself the right to") from error
    found = [Path(folder, name) for name in names]
    return [deeper for path in found for deeper in matching(path, rest)] if rest else found


def sha256(path):
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kind(start, kinds):
    """The first of `kinds`, a dict of names to how such files begin, that fits the beginning of a file; else None."""
    return next((name for name, beginnings in kinds.items() if start.startswith(beginnings)), None)


def lock(path, wait=0):
    """Hold the lock file `path` until its release() or the end of this process; None where another one holds it.

    wait: so many seconds for it to become free, or -1: as long as it takes. Where the file system
    has no locks, that is a warning and nothing is held. OSError where the file cannot be made.
    """
    held = filelock.FileLock(path, fallback_to_soft=False)  # a lock by mere existence would outlive a killed process
    try:
        held.acquire(timeout=wait)
    except filelock.Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in _UNSUPPORTED:
            raise
        warnings.warn(
            f"{path}: the file system has no locks ({error}); see to it that no other process works in this folder",
            stacklevel=2,
        )
    return held


def _flush(path, mode):
    """Wait until the disk has it, where the file system can tell."""
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
