"""Downloads of the data sets that can be had without asking: with a bar, resumable, checked where a digest is known."""

import hashlib
import http.client
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress

from tqdm import tqdm

from chromolib import files
from chromolib.errors import StudyError

CIR = "https://github.com/CloudDataLab/CIR-Net/raw/HEAD/data/origin.tar.gz"
_ATTEMPTS = 5  # connections that end too early, one after the other
_TIMEOUT = 60  # seconds without a byte
_FAILURES = (OSError, http.client.HTTPException)  # urllib's own errors are OSErrors


def get(name, obtain, folder):
    """Download a set into the data folder, as it is packed. StudyError where that fails, or cannot be done.

    name: of the set; obtain: where to get it, in words or as its page; folder: Path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if name == "cir":
        download(CIR, folder / "origin.tar.gz")
    elif name == "imagenette":
        from torchvision.datasets import Imagenette

        address, md5 = Imagenette._ARCHIVES["160px"]
        download(address, folder / address.rpartition("/")[2], md5)
    elif "kaggle.com/datasets/" in obtain:
        _by_kaggle(obtain.partition("/datasets/")[2], folder)
    else:
        raise StudyError(f"{name}: cannot be downloaded from here. Get it from {obtain}, and put it into {folder}")


def download(address, file, md5=None):
    """Fetch an address into a file, going on where an earlier call was cut off; StudyError where it fails.

    file: Path, which appears only when it is whole, and right by its MD5 where one is given. Another process that
    fetches the same is left alone: StudyError.
    """
    place = file.with_name(f".{file.name}.lock")
    lock = files.lock(place)
    if lock is None:
        raise StudyError(f"{file}: another process is downloading it; wait for it, or stop it")
    try:
        _download(address, file, md5)
    finally:
        lock.release()
        with suppress(OSError):  # Windows keeps a file that another process has just opened
            place.unlink()


def _download(address, file, md5):
    size, part = _begin(address, file)
    bar = tqdm(desc=file.name, total=size, initial=_length(part), unit="B", unit_scale=True)
    with bar:
        for _ in range(_ATTEMPTS):
            fault = _go_on(address, part, bar)
            whole = _length(part) == size if size is not None else fault is None
            if whole:
                break
    if not whole:
        of, why = f" of {size:,}" if size is not None else "", f" ({fault})" if fault is not None else ""
        raise StudyError(
            f"{address}: cut off at {_length(part):,}{of} bytes{why}. The same command goes on from there."
        )
    with open(part, "rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if md5 not in (None, found):
        part.unlink()
        raise StudyError(f"{address}: what came has MD5 {found}, not {md5}, and was deleted. Try again later.")
    part.replace(file)


def _begin(address, file):
    """Size in bytes, or None, and the file for what has come so far, named after the version that the server has."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_TIMEOUT) as answer:
            size, version = answer.headers["Content-Length"], answer.headers["ETag"] or answer.headers["Last-Modified"]
    except _FAILURES as error:
        raise StudyError(
            f"{address}: cannot be reached ({error}). Look for a network, or download it elsewhere."
        ) from error
    name = hashlib.sha256(f"{address} {version} {size}".encode()).hexdigest()[:8]
    part = file.with_name(f".{file.name}.{name}.part")
    for other in set(file.parent.glob(f".{file.name}.*.part")) - {part}:
        other.unlink()  # of another version
    return size and int(size), part


def _go_on(address, part, bar):
    """Fetch what is still missing, or all where the server cannot do that; the error that ended it, or None.

    A connection may end too early without one.
    """
    request = urllib.request.Request(address, headers={"Range": f"bytes={_length(part)}-"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, open(part, "ab") as file:
            if answer.status != http.client.PARTIAL_CONTENT:
                file.truncate(0)
                bar.reset(bar.total)
            while chunk := answer.read(2**16):
                file.write(chunk)
                bar.update(len(chunk))
    except _FAILURES as error:  # of the network, or of the disk
        return error


def _length(part):
    return part.stat().st_size if part.exists() else 0


def _by_kaggle(slug, folder):
    """Kaggle's own client asks for its key, shows a bar, and resumes."""
    client = shutil.which("kaggle")
    if client is None:
        raise StudyError(
            f"{slug}: comes by Kaggle's client. `pip install kaggle`, put your key where it says, try again."
        )
    done = subprocess.run([client, "datasets", "download", slug, "--path", str(folder)])
    if done.returncode:
        raise StudyError(
            f"{slug}: Kaggle's client failed, see above. Or download it by browser, and put it into {folder}"
        )
