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
@pytest.mark.parametrize("inner", ["origin.tar.gz", "ORIGIN.TAR", "origin.zip", "Origin.ZIP"])
def test_an_archive_inside_is_entered(tmp_path, outer, inner):
    kind = inner.lower().split(".")[-1]
    maker = {"gz": tar, "zip": zipped, "tar": lambda path: tar(path, mode="w")}[kind]
    content = maker(tmp_path / inner).read_bytes()
    place = outer(tmp_path / "repository", {f"data/{inner}": content, "readme.md": b"read me"})
    expected = {f"data/{inner}/{name}": content for name, content in FILES.items()} | {"readme.md": b"read me"}
    assert dict(archives.members(place)) == expected


def test_a_plain_tar_whose_last_file_is_a_zip_is_a_tar(tmp_path):
    """The end of a zip is near the end of such a tar, and zipfile alone takes it for one."""
    inner = zipped(tmp_path / "inner.zip").read_bytes()
    found = archives.members(tar(tmp_path / "a.tar", {"first": b"1", "inner.zip": inner}, "w"))
    assert dict(found) == {"first": b"1"} | {f"inner.zip/{name}": content for name, content in FILES.items()}


def test_a_zip_with_the_separators_of_windows_is_read(tmp_path):
    names = {name.replace("/", "\\"): content for name, content in FILES.items()}
    assert dict(archives.members(zipped(tmp_path / "a.zip", {"set\\1\\": b"", **names}))) == FILES


@pytest.mark.parametrize("maker", [folder, tar])
def test_names_that_are_no_utf8_are_read_and_can_be_written(tmp_path, maker):
    name = os.fsdecode(b"set/caf\xe9 1.bmp")
    found = dict(archives.members(maker(tmp_path / "a", {name: b"x", "set/2.bmp": b"y"})))
    assert found == {"set/caf\\xe9 1.bmp": b"x", "set/2.bmp": b"y"}
    assert [name.encode() for name in found]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """As mode 000 does, which does not stop root; os.walk alone passes over it."""
    place = folder(tmp_path / "a")
    closed, scandir = str(place / "set" / "2"), os.scandir

    def refuse(path):
        if os.fspath(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    refusal(place, closed, "cannot be read", "Permission denied")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every folder")
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_closed_folder_is_named(tmp_path, mode):
    place = folder(tmp_path / "a")
    closed = place / "set" / "2"
    closed.chmod(mode)
    try:
        refusal(place, str(closed))
    finally:
        closed.chmod(0o755)


def test_a_file_that_may_not_be_opened_is_named_with_the_remedy(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    place = folder(tmp_path / "a")
    monkeypatch.setattr("builtins.open", refuse)
    refusal(place, "readme.txt", "the right to read it")


def test_deflate64_is_named_with_the_remedy(tmp_path):
    """What Windows takes for members beyond 2 GiB."""
    data = bytearray(zipped(tmp_path / "a.zip", {"x": b"y" * 100}).read_bytes())
    for header, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(header) + offset] = 9
    (tmp_path / "a.zip").write_bytes(data)
    refusal(tmp_path / "a.zip", "deflate64", "Unpack it first")


@pytest.mark.parametrize(
    "start, kind",
    [(b"Rar!\x1a\x07\x01\0", "RAR"), (b"7z\xbc\xaf\x27\x1c", "7-Zip"), (b"\x28\xb5\x2f\xfd", "Zstandard")],
)
def test_other_archives_under_a_known_name_are_named(tmp_path, start, kind):
    (tmp_path / "a.zip").write_bytes(start + bytes(900))
    refusal(tmp_path / "a.zip", kind, "Unpack it first")


def test_a_zip_with_a_name_that_is_no_text_is_refused(tmp_path):
    data = bytearray(zipped(tmp_path / "a.zip", {"caf\u00e9": b"y"}).read_bytes())
    for place in (data.index(b"caf"), data.rindex(b"caf")):
        data[place + 4] = 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    refusal(tmp_path / "a.zip", "UnicodeDecodeError")


@pytest.mark.parametrize("name", ["a.rar", "a.part1.rar", "a.7z", "a.7z.001", "a.tar.zst", "A.ZIP", "a.z01", "a.tgz"])
def test_what_wants_unpacking_is_known_by_its_name(name):
    assert archives.PACKED.search(name)
    assert not archives.PACKED.search(name + ".txt")


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
    refusal(path, "'x' is encrypted. Unpack it first")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_is_there_twice_is_refused(tmp_path, kind):
    """As where a file was added to an archive again: unpacked, the later one would replace the earlier."""
    if kind == "tar":
        path = tar(tmp_path / "a.tar", mode="w")
        tar(path, {"set/1/1 3a.bmp": b"another"}, mode="a")
    else:
        path = zipped(tmp_path / "a.zip")
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("set/1/1 3a.bmp", b"another")
    refusal(path, "'set/1/1 3a.bmp' is in it twice")


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
    assert [name for name, _ in archives.files_below(place)] == ["a/1", "b/2", "linked/z"]


def test_what_file_managers_leave_behind_is_no_file_of_the_set(tmp_path):
    left = [".DS_Store", "set/._1.bmp", "__MACOSX/set/._1.bmp", "set/@eaDir/1.bmp/THUMB.jpg", "$RECYCLE.BIN/S-1/1.bmp"]
    left += [".thumbnails/1.bmp", "set/.trash/1.bmp"]
    assert archives.names(folder(tmp_path / "a", FILES | dict.fromkeys(left, b"x"))) == sorted(FILES)
    dotted = {"set/.1.bmp": b"x"}  # which Windows shows as any other
    assert archives.names(folder(tmp_path / "b", FILES | dotted)) == sorted(FILES | dotted)
