"""Files that are either whole or absent, and their digests."""

import hashlib
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from chromolib.errors import StudyError

_PART = ".part."  # begins the name of a file that is being written
_FAILURES = (OSError, RuntimeError, SafetensorError)  # of plain Python, of torch and of safetensors on a full disk


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; on success it replaces `path` at once, on failure nothing is left.

    The content and the folder entry are flushed to disk first, so that a power cut leaves the old file or the
    new one, never a half. The caller writes the temporary path and closes it. StudyError where the disk is full or
    read-only.
    """
    path = Path(path)
    try:
        yield from _replacing(path)
    except _FAILURES as error:
        raise StudyError(
            f"{path}: cannot be written ({error}); what was there before is kept. Make room, or name another folder"
        ) from error


def _replacing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{_PART}{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; results are for others too
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def clear_parts(folder):
    """Delete what a killed process had half written in a folder, and below; for the one who alone writes there."""
    for part in Path(folder).rglob(f"{_PART}*"):
        part.unlink()


def sha256(path):
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
