"""Archives as they are downloaded, and as an attacker or a broken line would leave them."""

import gzip
import io
import os
import stat
import tarfile
import zipfile

import pytest

from chromolib import archives
from chromolib.errors import StudyError

FILES = {"set/1/1 3a.bmp": b"first" * 300, "set/1/1 3b.bmp": bytes(4096), "set/2/2 24.bmp": b"", "readme.txt": b"hi"}


def tar(path, files=FILES, mode="w:gz", extra=()):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in extra:
            archive.addfile(entry)
    return path


def zipped(path, files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def folder(path, files=FILES):
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


MAKERS = {
    "folder": lambda where: folder(where / "a"),
    "zip": lambda where: zipped(where / "a.zip"),
    "tar": lambda where: tar(where / "a.tar", mode="w"),
    "tar.gz": lambda where: tar(where / "a.tar.gz"),
    "tgz": lambda where: tar(where / "a.tgz"),
    "tar.xz": lambda where: tar(where / "a.tar.xz", mode="w:xz"),
    "tar.bz2": lambda where: tar(where / "a.tar.bz2", mode="w:bz2"),
}


def refusal(path, *words):
    with pytest.raises(StudyError) as caught:
        list(archives.members(path))
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", MAKERS)
def test_every_member_is_read(tmp_path, kind):
    assert dict(archives.members(MAKERS[kind](tmp_path))) == FILES


@pytest.mark.parametrize("kind", MAKERS)
def test_only_what_is_wanted_is_read(tmp_path, kind):
    found = archives.members(MAKERS[kind](tmp_path), lambda name: name.endswith("3b.bmp"))
    assert dict(found) == {"set/1/1 3b.bmp": bytes(4096)}


@pytest.mark.parametrize("outer", [zipped, folder, tar], ids=["zip", "folder", "tar.gz"])
@pytest.mark.parametrize("inner", ["origin.tar.gz", "origin.tar"])
def test_a_tar_inside_is_entered(tmp_path, outer, inner):
    content = tar(tmp_path / inner, mode="w:gz" if inner.endswith("gz") else "w").read_bytes()
    place = outer(tmp_path / "repository", {f"data/{inner}": content, "readme.md": b"read me"})
    expected = {f"data/{inner}/{name}": content for name, content in FILES.items()} | {"readme.md": b"read me"}
    assert dict(archives.members(place)) == expected


def test_a_leading_dot_is_no_part_of_the_name(tmp_path):
    assert dict(archives.members(tar(tmp_path / "a.tar", {"./set/x": b"1"}, "w"))) == {"set/x": b"1"}


@pytest.mark.fault(12)
@pytest.mark.parametrize("name", ["../outside.bmp", "set/../../outside.bmp", "/etc/passwd", "C:\\x.bmp", "..\\x.bmp"])
@pytest.mark.parametrize("maker", [tar, zipped])
def test_names_that_lead_outside_are_refused(tmp_path, name, maker):
    refusal(maker(tmp_path / "evil", {name: b"x"}), "outside", "evil")


@pytest.mark.fault(12)
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    entry = tarfile.TarInfo("set/1/1 4a.bmp")
    entry.type, entry.linkname = kind, "/etc/passwd"
    refusal(tar(tmp_path / "a.tar.gz", extra=[entry]), "set/1/1 4a.bmp", "link or a device")


@pytest.mark.fault(12)
def test_a_link_in_a_zip_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    entry = zipfile.ZipInfo("set/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    refusal(path, "set/link", "link or a device")


def test_an_encrypted_member_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", {"x": b"secret"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(data)
    refusal(path, "encrypted")


def test_a_broken_link_in_a_folder_is_refused(tmp_path):
    place = folder(tmp_path / "a")
    (place / "gone.bmp").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StudyError, match=r"gone\.bmp"):
        list(archives.members(place))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_in_a_folder_is_refused(tmp_path):
    place = folder(tmp_path / "a")
    os.mkfifo(place / "pipe.bmp")
    with pytest.raises(StudyError, match=r"pipe\.bmp"):
        list(archives.members(place))


@pytest.mark.fault(13)
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("limit, value", [("MAX_MEMBERS", 3), ("MAX_MEMBER_BYTES", 4095), ("MAX_TOTAL_BYTES", 5000)])
def test_bombs_are_refused(tmp_path, monkeypatch, kind, limit, value):
    monkeypatch.setattr(archives, limit, value)
    with pytest.raises(StudyError):
        list(archives.members(MAKERS[kind](tmp_path)))


@pytest.mark.fault(13)
def test_a_bomb_in_a_name_or_behind_the_end_is_refused(tmp_path, monkeypatch):
    """tarfile alone would read a name of any length into memory."""
    monkeypatch.setattr(archives, "MAX_OVERHEAD_BYTES", 2**20)
    long_name = tarfile.TarInfo("x" * 2**21)
    refusal(tar(tmp_path / "name.tar.gz", extra=[long_name]), "beyond all measure")
    end = tar(tmp_path / "end.tar.gz")
    end.write_bytes(gzip.compress(gzip.decompress(end.read_bytes()) + bytes(2**21)))
    refusal(end, "beyond all measure")


@pytest.mark.fault(13)
def test_a_bomb_inside_a_nested_tar_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 1_000_000)
    bomb = tar(tmp_path / "bomb.tar.gz", {"zeros": bytes(2_000_000)})
    refusal(zipped(tmp_path / "a.zip", {"bomb.tar.gz": bomb.read_bytes()}), "zeros")


@pytest.mark.fault(13)
def test_a_zip_that_forges_a_size_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", {"x": b"y" * 1000})
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 24  # uncompressed size in the central directory
    data[place : place + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    refusal(path)


@pytest.mark.fault(14)
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.xz", "a.tar"])
def test_what_stands_in_place_of_an_archive_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"<!DOCTYPE html>\n<html><title>Sign in</title></html>" + b" " * 2000)
    refusal(path, "web page", "Download")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    refusal(path, "Git LFS")
    path.write_bytes(b"")
    refusal(path, "empty")


@pytest.mark.fault(14)
@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "folder"])
def test_a_cut_short_download_is_refused_wherever_it_ends(tmp_path, kind):
    path = MAKERS[kind](tmp_path)
    whole = path.read_bytes()
    lengths = range(1, len(whole) - 1, max(1, len(whole) // 60))
    if kind == "tar":  # the zeros after its last member carry nothing, a cut among them may pass
        lengths = [length for length in lengths if length < len(whole.rstrip(b"\0"))]
    for length in [*lengths, *([] if kind == "tar" else [len(whole) - 2])]:
        path.write_bytes(whole[:length])
        refusal(path)


def test_a_tar_cut_between_two_members_is_refused(tmp_path):
    """tarfile alone takes the first member for the whole archive."""
    path = tar(tmp_path / "a.tar", mode="w")
    with tarfile.open(path) as archive:
        boundary = archive.getmembers()[1].offset
    path.write_bytes(path.read_bytes()[:boundary])
    refusal(path, "cut short")


def test_a_damaged_header_in_the_middle_is_refused(tmp_path):
    """tarfile alone stops there without a word."""
    path = tar(tmp_path / "a.tar", mode="w")
    with tarfile.open(path) as archive:
        header = archive.getmembers()[2].offset
    data = bytearray(path.read_bytes())
    data[header + 5] ^= 0xFF
    path.write_bytes(data)
    refusal(path, "damaged")


def test_a_flipped_bit_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", {"x": os.urandom(3000)})
    data = bytearray(path.read_bytes())
    data[1500] ^= 1
    path.write_bytes(data)
    refusal(path)


def test_files_are_sorted_and_follow_the_users_own_links(tmp_path):
    place = folder(tmp_path / "a", {"b/2": b"2", "a/1": b"1"})
    (place / "linked").symlink_to(folder(tmp_path / "other", {"z": b"3"}))
    assert [name for name, _ in archives.files(place)] == ["a/1", "b/2", "linked/z"]
