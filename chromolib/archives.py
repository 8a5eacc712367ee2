"""Files of a folder or an archive, one after the other, without unpacking anything to disk."""

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from chromolib import files
from chromolib.errors import StudyError

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
SUFFIXES = (".zip", *_TARS)
PACKED = re.compile(  # the end of a name of anything that wants unpacking, of which only SUFFIXES are read here
    r"\.(zip|zipx|z\d\d|rar|r\d\d|7z|t?zst|t?lz4?|lzma|arj|cab|iso|dmg|tar|t?gz|t?xz|t?bz2?)(\.\d{3})?$", re.IGNORECASE
)
# Hidden folders; what macOS, a NAS of Synology (thumbnails) and Windows make. A hidden image may be somebody's.
_LEFT_BEHIND = re.compile(r"(^|/)(\.[^/]*/|\._|\.DS_Store$|__MACOSX/|@eaDir/|\$RECYCLE\.BIN/)")
MAX_MEMBERS = 500_000  # [ours] the largest known set has 28,136 files
MAX_MEMBER_BYTES = 256 * 2**20
MAX_TOTAL_BYTES = 16 * 2**30
MAX_OVERHEAD_BYTES = 16 * 2**20  # of a tar's headers before a member, which are read whole, and of its end

_UNPACK = "Unpack it first, and keep the folder in its place"
_OPENERS = {gzip.open: b"\x1f\x8b", lzma.open: b"\xfd7zXZ\0", bz2.open: b"BZh"}
_OTHERS = {"RAR": b"Rar!", "7-Zip": b"7z\xbc\xaf", "Zstandard": b"\x28\xb5\x2f\xfd"}
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError),
    *(NotImplementedError, UnicodeDecodeError),  # of zipfile: an unknown compression, a name that is no UTF-8
)


def members(path, wanted=lambda name: True):
    """Yield (name, content) of the files in a folder, zip or tar (plain, gz, xz, bz2) whose name is `wanted`.

    name: str, relative, with "/", and with \\x.. for what is no UTF-8; content: bytes. A tar or zip
    inside is entered, one level deep; its members are called `<archive>/<member>`. Order is that of
    the archive, or sorted for a folder. Raises StudyError for a folder that cannot be read, a name
    with ".." or an absolute one, a name that is there twice, a link or a device in an archive, an
    encrypted member, too many or too large ones (limits above), and for an archive that is none, is
    cut short or damaged, or packed in a way that Python cannot read.
    """
    path, seen, n_bytes = Path(path), set(), 0
    for name, size, read in _all(path):
        if name in seen:  # as where a file was added again to an archive: which one is meant, nobody can tell
            raise StudyError(f"{path}: {name!r} is in it twice. {_UNPACK}")
        seen.add(name)
        n_bytes += size
        if len(seen) > MAX_MEMBERS or n_bytes > MAX_TOTAL_BYTES:  # a bomb is known only by what it unpacks to
            limits = f"{MAX_MEMBERS:,} members or {MAX_TOTAL_BYTES / 2**30:.0f} GiB in all"
            raise _refused(path, name, f"goes beyond {limits}")
        if read and wanted(name):
            yield name, read()


def names(path):
    """Names of all files in a folder or archive, as of `members`, but those that file managers leave behind."""
    found = []
    for _ in members(path, found.append):  # which wants none of them
        pass
    return [name for name in found if not _LEFT_BEHIND.search(name)]


def files_below(folder):
    """Sorted (relative name with "/", Path) of all files under a folder; links are followed, they are the user's own.

    Raises StudyError for a folder that cannot be read, and for what is neither a file nor a folder,
    such as a broken link or a device.
    """
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        folders.sort()
        found += [Path(parent, name) for name in names]
        if len(found) > MAX_MEMBERS:
            raise StudyError(f"{folder}: more than {MAX_MEMBERS:,} files; point to the folder of the data set itself.")
    for path in found:
        if not os.path.isfile(path):  # which says False too where the folder forbids to look
            reason = "neither a file nor a folder (a broken link or a device), or out of reach"
            raise StudyError(f"{_printable(path)}: {reason}. Remove it, or give yourself the right to read it.")
    return sorted((_printable(path.relative_to(folder).as_posix()), path) for path in found)


def _refuse_folder(error):
    """What `os.walk` would pass over without a word."""
    path = _printable(error.filename)
    raise StudyError(
        f"{path}: this folder cannot be read ({error.strerror}). Give yourself the right to, or remove it."
    )


def _printable(name):
    """The name as text, with \\x.. for bytes that are no UTF-8, which Python holds as surrogates nobody can write."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _all(path):
    """Yield (name, size, function that reads the content) of all files; None for it of an archive, whose own follow."""
    for name, size, opened in _entries(path):
        if name.lower().endswith(SUFFIXES):
            yield name, size, None
            yield from _nested(path, name, opened)
        else:
            yield name, size, partial(_content, path, name, size, opened)


def _entries(path):
    """Yield (name, size, function that opens the member) of a folder or archive."""
    if path.is_dir():
        for name, file in files_below(path):
            yield name, file.stat().st_size, partial(open, file, "rb")
        return
    try:
        with open(path, "rb") as stream:
            plain_tar = stream.read(512)[257:262] == b"ustar"  # whose last file may be a zip, at its very end
            entries = _tar_entries if plain_tar or not zipfile.is_zipfile(stream) else _zip_entries
            stream.seek(0)
            yield from entries(stream, path)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def _zip_entries(stream, path):
    with zipfile.ZipFile(stream) as archive:
        for entry in archive.infolist():
            name = _safe_name(entry.filename.replace("\\", "/"), path)  # as some programs write for Windows
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(path, entry.filename, "is a link or a device")
            if entry.flag_bits & 1:
                raise StudyError(f"{path}: member {entry.filename!r} is encrypted. {_UNPACK}")
            if not entry.filename.endswith(("/", "\\")):
                yield name, entry.file_size, partial(archive.open, entry)


def _tar_entries(stream, path):
    """As `_entries`, of a tar in an open binary stream that need not be seekable."""
    stream = io.BufferedReader(stream) if not hasattr(stream, "peek") else stream
    opener = files.kind(stream.peek(512), _OPENERS)
    watched = _Watched(opener(stream) if opener else stream, path)
    with tarfile.open(fileobj=watched, mode="r|") as archive:
        for entry in archive:
            watched.expect(entry.size)
            name = _safe_name(entry.name, path)
            if not (entry.isfile() or entry.isdir()):
                raise _refused(path, entry.name, "is a link or a device")
            if entry.isfile():
                yield name, entry.size, partial(archive.extractfile, entry)
        # tarfile stops without a word where a header is missing or damaged, so look at what follows.
        if not watched.ends_well(archive.offset):
            raise tarfile.ReadError("its end is missing")


class _Watched:
    """A stream that notes where its last byte other than zero is: after the last member of a tar all are zero.

    It refuses more than was announced, as a header may claim a name of gigabytes, packed to almost
    nothing.
    """

    def __init__(self, stream, path):
        self._stream, self._path, self._length, self._end_of_content = stream, path, 0, 0
        self.expect(0)

    def expect(self, size):
        """A member of so many bytes comes next."""
        self._limit = self._length + size + MAX_OVERHEAD_BYTES

    def read(self, size):
        chunk = self._stream.read(size)
        if self._length + len(chunk) > self._limit:
            raise _refused(self._path, "?", "has headers or an end beyond all measure")
        content = len(chunk.rstrip(b"\0"))
        self._end_of_content = self._length + content if content else self._end_of_content
        self._length += len(chunk)
        return chunk

    def ends_well(self, offset):
        """Whether nothing but zeros, and at least one block of them, follows `offset` (reads to the end)."""
        while self.read(2**20):
            pass
        return self._end_of_content <= offset <= self._length - tarfile.BLOCKSIZE


def _nested(path, name, opened):
    """As `_all`, of an archive inside another or a folder; a zip, which begins at its end, goes to a nameless file."""
    inner = path / name
    zipped = name.lower().endswith(".zip")
    try:
        with opened() as stream, tempfile.TemporaryFile() as copy:
            if zipped:
                shutil.copyfileobj(stream, copy)
            entries = _zip_entries(copy, inner) if zipped else _tar_entries(stream, inner)
            for member, size, member_opened in entries:
                yield f"{name}/{member}", size, partial(_content, inner, member, size, member_opened)
    except _DAMAGE as error:
        raise _unreadable(inner, error) from error


def _content(path, name, size, opened):
    if size > MAX_MEMBER_BYTES:
        raise _refused(path, name, f"is larger than {MAX_MEMBER_BYTES / 2**20:.0f} MiB")
    try:
        with opened() as stream:
            content = stream.read(MAX_MEMBER_BYTES + 1)
    except (*_DAMAGE, RuntimeError) as error:
        raise _unreadable(path / name, error) from error
    if len(content) != size:
        raise _refused(path, name, f"has {len(content):,} bytes where {size:,} are announced")
    return content


def _safe_name(name, path):
    """The name without "./", unless it leads out of the archive on any system."""
    for pure in PurePosixPath(name), PureWindowsPath(name):
        if pure.anchor or ".." in pure.parts:
            raise _refused(path, name, "points outside the archive")
    return _printable(PurePosixPath(name).as_posix())


def _refused(path, name, reason):
    return StudyError(f"{path}: member {name!r} {reason}. Get the archive again from its source; do not use this one.")


def _unreadable(path, error):
    return StudyError(f"{path}: {_diagnosis(path, error)} ({type(error).__name__}: {error})")


def _diagnosis(path, error):
    """What is wrong and what to do, from the beginning of a file that could not be read."""
    if isinstance(error, PermissionError):
        return "cannot be opened. Give yourself the right to read it"
    if isinstance(error, NotImplementedError):
        return f"is packed in a way that Python cannot read. {_UNPACK}"
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError:
        start = b"?"
    if kind := files.kind(start, _OTHERS):
        return f"is a {kind} archive, which is not read here. {_UNPACK}"
    if other := files.kind(start.lstrip().lower(), files.IN_PLACE):
        what = f"is {other} in place of the archive"
    else:
        what = "cannot be read whole: cut short or damaged" if start else "is an empty file"
    return f"{what}. Download it again and compare its size"
