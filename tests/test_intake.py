"""All pictures of a folder or archive: what is handed on, what is said of it, and that few are in memory at once."""

import shutil

import numpy as np
import pytest
from PIL import Image

from chromolib import intake
from chromolib.errors import StudyError


def drawn(number):
    """A picture that no other number gives, of a size of its own: (h, w) uint8."""
    return np.random.default_rng(number).integers(0, 256, (number % 3 + 4, number + 5), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Six pictures in two folders, and a text among them; the last of the six in colour, though grey."""
    for number in range(6):
        file = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn(number)).convert("RGB" if number == 5 else "L").save(file)
    (tmp_path / "set" / "a" / "notes.txt").write_text("no picture")
    return tmp_path / "set"


PICTURES = {f"{'ab'[number % 2]}/{number}.png": number for number in range(6)}


def taken(path, members=PICTURES):
    """What `each` hands on, {member: (h, w) uint8}, and what it returns."""
    found = {}
    words, copies = intake.each(path, members, found.__setitem__, "reading")
    return found, words, copies


@pytest.mark.parametrize("packed", [None, "zip", "xztar"])
def test_each_picture_that_is_named_is_handed_on_once_and_no_other(folder, packed):
    place = shutil.make_archive(str(folder), packed, folder) if packed else folder
    members = [name for name in PICTURES if name != "a/2.png"]
    found, words, copies = taken(place, members)
    assert sorted(found) == sorted(members) and not copies
    assert all(np.array_equal(found[name], drawn(PICTURES[name])) for name in members)
    assert words == ["images stored as RGB and read as grey: 1"]


def test_copies_are_found_whatever_their_format_and_folder(folder):
    for name, ending in (("b/again.bmp", "BMP"), ("a/third.tif", "TIFF")):
        Image.fromarray(drawn(0)).save(folder / name, ending)
    Image.fromarray(drawn(0).T).save(folder / "b" / "turned.png")  # the same pixels in another shape are no copy
    members = [*PICTURES, "b/again.bmp", "a/third.tif", "b/turned.png"]
    assert [set(group) for group in taken(folder, members)[2]] == [{"a/0.png", "a/third.tif", "b/again.bmp"}]


def test_one_that_cannot_be_read_is_named_with_its_folder_and_several_together(folder):
    (folder / "b" / "1.png").write_bytes(b"")
    with pytest.raises(StudyError, match=rf"^{folder}/b/1\.png: the file is empty\. Copy it again from its source\.$"):
        taken(folder)
    whole = (folder / "a" / "4.png").read_bytes()
    (folder / "a" / "4.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match=rf"^{folder}: a/4\.png: damaged.*; b/1\.png: .* In all 2 such among 6 images"):
        taken(folder)


def test_a_long_reading_shows_its_progress(folder, monkeypatch, capsys):
    monkeypatch.setattr(intake, "QUIET", 0)
    taken(folder)
    assert "reading" in (said := capsys.readouterr().out) and "6/6" in said and "images/s" in said


def test_images_are_decoded_in_order_and_few_are_read_ahead(monkeypatch):
    monkeypatch.setattr(intake, "_AHEAD", 3)
    read, done = 0, []

    def items():
        nonlocal read
        for number in range(50):
            read += 1
            assert read - len(done) <= 3 + 1
            yield (number,)

    assert intake._on_all_cores(lambda number: done.append(number) or number, items()) == list(range(50))


def test_of_several_faults_the_first_in_order_is_told():
    def items():
        yield from ((number,) for number in range(5))
        raise StudyError("the archive is cut short")

    def decode(number):
        if number in (2, 4):
            raise StudyError(f"image {number}")

    with pytest.raises(StudyError, match="image 2"):
        intake._on_all_cores(decode, items())
    with pytest.raises(StudyError, match="cut short"):
        intake._on_all_cores(lambda number: None, items())
