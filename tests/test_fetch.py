"""Downloads from a server on this machine that answers, cuts off, lies, or is not there."""

import errno
import hashlib
import io
import os
import re
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import filelock
import pytest

from chromolib import archives, datasets, fetch
from chromolib.errors import StudyError

pytestmark = pytest.mark.usefixtures("own_cache")

CONTENT = bytes(range(256)) * 4000  # about a megabyte
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `cut` bytes a connection at most, `ranges` or always from the start, `version` as ETag.

    chunked: without saying how long it is.
    """

    cut, ranges, version, content, chunked = None, True, "1", CONTENT, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.address = f"http://127.0.0.1:{self.server_port}/data/origin.tar.gz"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        server = self.server
        begin = int(re.findall(r"\d+", self.headers.get("Range", "0"))[0]) if server.ranges else 0
        if not self.path.startswith("/moved/"):
            server.asked.append(begin)
        self.answer(server.content[begin:][: server.cut], begin)

    def answer(self, body, begin=0):
        if self.path.endswith("absent"):
            self.send_error(404)
            return
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n" % (len(body), body) + (b"" if self.server.cut else b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(self.server.content) - begin))
        self.send_header("ETag", self.server.version)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_arrives_whole_and_alone(server, tmp_path, capsys):
    fetch.download(server.address, tmp_path / "origin.tar.gz", MD5)
    assert (tmp_path / "origin.tar.gz").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["origin.tar.gz"]
    assert "100%" in capsys.readouterr().err  # the bar


def test_a_connection_that_is_cut_is_taken_up_where_it_was(server, tmp_path):
    server.cut = 300_000
    fetch.download(server.address, tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [0, 300_000, 600_000, 900_000]


def test_an_address_that_points_elsewhere_is_followed_and_taken_up(server, tmp_path):
    server.cut = 600_000
    fetch.download(server.address.replace("/data/", "/moved/data/"), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.asked[-1] == 600_000


@pytest.mark.fault(14)
def test_a_later_call_goes_on_where_the_first_was_cut_off(server, tmp_path):
    server.cut = 100_000
    with pytest.raises(StudyError, match=r"cut off at 500,000 of 1,024,000 bytes. The same command goes on"):
        fetch.download(server.address, tmp_path / "a", MD5)
    assert not (tmp_path / "a").exists()
    server.cut = None
    fetch.download(server.address, tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [0, 100_000, 200_000, 300_000, 400_000, 500_000]


@pytest.mark.fault(14)
def test_a_connection_that_is_cut_is_seen_where_no_length_was_said(server, tmp_path):
    server.chunked, server.cut = True, 100_000
    with pytest.raises(StudyError, match=r"cut off at [\d,]+ bytes \(IncompleteRead"):
        fetch.download(server.address, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    server.cut = None
    fetch.download(server.address, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.fault(25)
def test_a_full_disk_is_no_fault_of_the_network(server, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "open", lambda *_: Full(), raising=False)
    with pytest.raises(StudyError, match=r"cut off at 0 of 1,024,000 bytes \(.*No space left on device"):
        fetch.download(server.address, tmp_path / "a", MD5)


def test_another_version_on_the_server_is_not_mixed_with_the_first(server, tmp_path):
    server.cut = 100_000
    with pytest.raises(StudyError, match="cut off"):
        fetch.download(server.address, tmp_path / "a")
    server.cut, server.version, server.content = None, "2", CONTENT[::-1]
    fetch.download(server.address, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT[::-1]
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.fault(27)
def test_two_processes_do_not_write_into_one_download(server, tmp_path):
    other = filelock.FileLock(tmp_path / ".a.lock")
    with other, pytest.raises(StudyError, match="a: another process is downloading it"):
        fetch.download(server.address, tmp_path / "a", MD5)
    assert server.asked == []
    fetch.download(server.address, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == ["a"]


def test_a_server_that_knows_no_parts_starts_anew(server, tmp_path):
    server.cut, server.ranges = 300_000, False
    with pytest.raises(StudyError, match=r"cut off at 300,000"):
        fetch.download(server.address, tmp_path / "a", MD5)
    server.cut = None
    fetch.download(server.address, tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.fault(14)
def test_a_wrong_digest_is_refused_and_nothing_stays(server, tmp_path):
    with pytest.raises(StudyError, match=f"has MD5 {MD5}, not 00"):
        fetch.download(server.address, tmp_path / "a", "00")
    assert os.listdir(tmp_path) == []


@pytest.mark.fault(15)
def test_an_address_that_cannot_be_had(server, tmp_path):
    with pytest.raises(StudyError, match=r"cannot be reached \(HTTP Error 404"):
        fetch.download(server.address + "/absent", tmp_path / "a")
    server.server_close()
    server.shutdown()
    with pytest.raises(StudyError, match=r"cannot be reached.*Look for a network"):
        fetch.download(server.address, tmp_path / "a")


# python -m chromolib.datasets get


def test_get_cir(server, tmp_path, monkeypatch, capsys):
    from test_datasets import drawn_cir, tar_of

    server.content = tar_of(drawn_cir())
    monkeypatch.setattr(fetch, "CIR", server.address)
    monkeypatch.setenv("CHROMOLIB_DATA", str(tmp_path / "data"))
    datasets.main(["get", "cir"])
    printed = capsys.readouterr().out
    assert "origin.tar.gz: 48 images" in printed and "2,986" in printed
    assert len(dict(archives.members(tmp_path / "data" / "origin.tar.gz"))) == 48
    datasets.main(["get", "cir"])  # finds it there
    assert server.asked == [0]


def test_get_imagenette_by_torchvisions_address_and_digest(server, tmp_path, monkeypatch):
    from test_datasets import drawn_imagenette, tar_of
    from torchvision.datasets import Imagenette

    server.content = tar_of(drawn_imagenette())
    address, md5 = Imagenette._ARCHIVES["160px"]
    assert address.endswith("imagenette2-160.tgz") and re.fullmatch("[0-9a-f]{32}", md5)
    here = address.replace("https://s3.amazonaws.com/", server.address.partition("data")[0])
    monkeypatch.setitem(Imagenette._ARCHIVES, "160px", (here, md5))
    monkeypatch.setenv("CHROMOLIB_DATA", str(tmp_path / "data"))
    with pytest.raises(SystemExit, match=md5):  # the drawn one is not fastai's
        datasets.main(["get", "imagenette"])
    assert os.listdir(tmp_path / "data") == []
    monkeypatch.setitem(Imagenette._ARCHIVES, "160px", (here, hashlib.md5(server.content).hexdigest()))
    datasets.main(["get", "imagenette"])
    assert len(datasets.load("imagenette", size=8).files) == 12


def test_get_bioimlab_by_kaggles_client(tmp_path, monkeypatch):
    from test_datasets import drawn_bioimlab, write_zip

    write_zip(tmp_path / "served.zip", drawn_bioimlab(("1",)))
    client = tmp_path / "bin" / "kaggle"
    client.parent.mkdir()
    client.write_text(
        f'#!/bin/sh\ntest "$1 $2" = "datasets download" || exit 1\ncp {tmp_path}/served.zip "$5/bioimlab.zip"\n'
    )
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(client.parent), prepend=os.pathsep)
    monkeypatch.setenv("CHROMOLIB_DATA", str(tmp_path / "data"))
    datasets.main(["get", "bioimlab"])
    assert (tmp_path / "data" / "bioimlab.zip").exists()
    client.write_text("#!/bin/sh\necho 'Could not find kaggle.json' >&2\nexit 1\n")
    (tmp_path / "data" / "bioimlab.zip").unlink()
    with pytest.raises(SystemExit, match="Kaggle's client failed, see above"):
        datasets.main(["get", "bioimlab"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="pip install kaggle"):
        datasets.main(["get", "bioimlab"])


@pytest.mark.parametrize(
    "name, words", [("pki3", "Get it from BioImLab"), ("synthetic_g", "nothing to get"), ("q_band", "unknown")]
)
def test_what_cannot_be_downloaded_says_why(tmp_path, monkeypatch, name, words):
    monkeypatch.setenv("CHROMOLIB_DATA", str(tmp_path / "data"))
    with pytest.raises(SystemExit, match=words):
        datasets.main(["get", name])
