"""Loaders on drawn layouts, and on the real sets where they are at hand."""

import hashlib
import io
import shutil
import struct
import tarfile
import threading
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from chromolib import datasets, images
from chromolib.errors import StudyError

pytestmark = pytest.mark.usefixtures("own_cache")


def encoded(level, format="TIFF", shape=(20, 12), mode="L"):
    buffer = io.BytesIO()
    Image.fromarray(np.full(shape, level, np.uint8)).convert(mode).save(buffer, format)
    return buffer.getvalue()


def write_folder(place, content):
    for name, data in content.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def tar_of(content, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def write_zip(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def drawn_cir():
    """The 24 labels, twice, in the layout of the authors' file list."""
    return {
        f"origin/{7 + copy}15412{label:05d}.{label}7.{label}.tiff": encoded(10 * label + copy, shape=(24, 24))
        for label in range(24)
        for copy in range(2)
    }


def drawn_bioimlab(cells=("1", "2", "10")):
    """Whole karyotypes; the first cell XX, the others XY, one of which calls its X 23a."""
    found = {}
    for cell in cells:
        sexes = ["23a", "23b"] if cell == cells[0] else ["23a" if cell == cells[-1] else "23", "24"]
        for number in [*(f"{n}{copy}" for n in range(1, 23) for copy in "ab"), *sexes]:
            found[f"single_chromosomes/{cell}/{cell} {number}.bmp"] = encoded(len(found) % 250, "BMP")
    return found


def drawn_imagenette():
    return {
        f"imagenette2-160/{part}/{wnid}/{wnid}_{number}.JPEG": encoded(40 * number, "JPEG", (30, 50), "RGB")
        for part in ("train", "val")
        for wnid in ("n01440764", "n03888257")
        for number in range(1, 4)
    }


def check_cir(dataset):
    assert (dataset.name, dataset.stain, dataset.cells) == ("cir", "G", None)
    assert dataset.images.shape == (48, 16, 16) and dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int64
    assert Counter(dataset.labels.tolist()) == dict.fromkeys(range(24), 2)
    levels = dataset.images[:, 8, 8]
    np.testing.assert_array_equal(np.sort(levels // 10), np.sort(dataset.labels))
    np.testing.assert_array_equal(levels // 10, dataset.labels)
    assert all(file.endswith(f".{label}.tiff") for file, label in zip(dataset.files, dataset.labels, strict=True))
    assert any("2,986" in line for line in dataset.report)  # far fewer than the whole set


def lay_out_cir(root, kind):
    content, repository = drawn_cir(), "CIR-Net-master/data/origin.tar.gz"
    root.mkdir()
    if kind == "folder":
        write_folder(root / "cir", content)
    elif kind == "tar.gz":
        (root / "origin.tar.gz").write_bytes(tar_of(content))
    elif kind == "zip":
        write_zip(root / "cir.zip", content)
    elif kind == "repository zip":
        write_zip(root / "CIR-Net-master.zip", {repository: tar_of(content), "CIR-Net-master/README.md": b"CIR-Net"})
    elif kind == "repository folder":
        write_folder(root, {repository: tar_of(content), "CIR-Net-master/figure.png": encoded(1, "PNG")})


CIR_KINDS = ["folder", "tar.gz", "zip", "repository zip", "repository folder"]


@pytest.mark.parametrize("kind", CIR_KINDS)
def test_cir_in_every_wrapping(tmp_path, kind):
    lay_out_cir(tmp_path / "data", kind)
    check_cir(datasets.load("cir", tmp_path / "data", size=16))


def test_the_wrapping_does_not_change_the_digest(tmp_path):
    digests = set()
    for kind in CIR_KINDS:
        lay_out_cir(tmp_path / kind, kind)
        digests.add(datasets.load("cir", tmp_path / kind, size=16).digest)
    assert len(digests) == 1


def test_the_digest_is_of_images_labels_and_files(tmp_path):
    lay_out_cir(tmp_path / "data", "zip")
    dataset = datasets.load("cir", tmp_path / "data", size=16)
    text = "\n".join(dataset.files.tolist())
    content = np.array(dataset.images).tobytes() + dataset.labels.tobytes() + text.encode()
    assert dataset.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("packed", [False, True])
def test_imagenette(tmp_path, packed):
    if packed:
        (tmp_path / "imagenette2-160.tgz").write_bytes(tar_of(drawn_imagenette()))
    else:
        write_folder(tmp_path, drawn_imagenette())
    dataset = datasets.load("imagenette", tmp_path, size=32)
    assert (dataset.stain, dataset.cells, len(dataset.files)) == ("natural", None, 12)
    assert set(dataset.labels.tolist()) == {-1}
    assert dataset.files[0] == "train/n01440764/n01440764_1.JPEG"
    assert (dataset.images[:, 0] > 0).all()  # cut to a square, not padded as chromosomes are
    np.testing.assert_allclose(dataset.images[:3, 16, 16], [40, 80, 120], atol=2)


def test_photographs_of_ones_own(tmp_path):
    content = {"a/1.jpg": encoded(5, "JPEG"), "b/1.jpg": encoded(6, "JPEG"), "b/x.PNG": encoded(7, "PNG")}
    write_folder(tmp_path / "imagenet-sample", content)
    dataset = datasets.load("imagenet_sample", tmp_path, size=8)
    assert dataset.files.tolist() == ["a/1.jpg", "b/1.jpg", "b/x.PNG"]
    assert dataset.report == ()


def test_bioimlab_names(tmp_path):
    write_folder(tmp_path / "bioimlab", drawn_bioimlab())
    dataset = datasets.load("bioimlab", tmp_path, size=8)
    assert dataset.files[:3].tolist() == ["1/1 1a.bmp", "1/1 1b.bmp", "1/1 2a.bmp"]
    assert dataset.cells[[0, -1]].tolist() == ["1", "10"]  # 10 after 2
    of_cell = {cell: Counter(dataset.labels[dataset.cells == cell].tolist()) for cell in ("1", "2", "10")}
    assert (of_cell["1"][22], of_cell["1"][23]) == (2, 0)
    assert (of_cell["2"][22], of_cell["2"][23]) == (of_cell["10"][22], of_cell["10"][23]) == (1, 1)
    assert all(count[label] == 2 for count in of_cell.values() for label in range(22))
    assert dataset.report == ("138 images, where the whole set has 5,474", "3 cells, where the whole set has 119")


def test_irregularities_are_reported(tmp_path):
    content = drawn_bioimlab()
    del content["single_chromosomes/2/2 7a.bmp"]
    content["single_chromosomes/1/1 7c.bmp"] = encoded(3, "BMP")
    content["single_chromosomes/10/10 3a.bmp"] = encoded(3, "BMP", mode="RGB")
    content["single_chromosomes/10/._10 3a.bmp"] = b"left by a file manager"
    write_folder(tmp_path / "bioimlab", content)
    (tmp_path / "bioimlab.zip").write_bytes(b"")
    report = datasets.load("bioimlab", tmp_path, size=8).report
    assert report == (
        "bioimlab.zip lies beside bioimlab and was not read",
        "files not in the layout of the set, left out: 1 (such as single_chromosomes/1/1 7c.bmp)",
        "137 images, where the whole set has 5,474",
        "3 cells, where the whole set has 119",
        "1 cells do not have 46 images: 2 (45)",
        "images stored as RGB and read as grey: 1",
    )
    assert datasets.load("bioimlab", tmp_path, size=8).report == report  # from the cache too


def test_an_image_of_pki3_in_no_class_is_reported(tmp_path):
    content = {f"c.tiff/clase{n}/clase{n}_0_c.tiff": encoded(n) for n in (1, 23, 25)}
    write_folder(tmp_path / "pki3", content)
    dataset = datasets.load("pki3", tmp_path, size=8)
    assert dataset.labels.tolist() == [0, 22]
    assert any("no chromosome" in line and "c.tiff/clase25/clase25_0_c.tiff" in line for line in dataset.report)


@pytest.mark.parametrize("name", ["bioimlab", "cir", "imagenette", "pki3_65", "imagenet_sample"])
def test_an_absent_set_says_where_to_get_it(tmp_path, name):
    with pytest.raises(StudyError) as caught:
        datasets.load(name, tmp_path / "nothing")
    message = str(caught.value)
    assert all(words in message for words in (name, str(tmp_path / "nothing"), "Get it from", "CHROMOLIB_DATA"))


def test_the_data_folder_comes_from_the_environment(tmp_path, monkeypatch):
    lay_out_cir(tmp_path / "elsewhere", "zip")
    monkeypatch.setenv("CHROMOLIB_DATA", str(tmp_path / "elsewhere"))
    check_cir(datasets.load("cir", size=16))


def test_unknown_names_and_sizes():
    with pytest.raises(StudyError, match=r"'q_band'.*bioimlab"):
        datasets.load("q_band")
    for size in (0, -3, 25.6, "256"):
        with pytest.raises(StudyError, match="size"):
            datasets.load("photographs", size=size)


@pytest.mark.fault(21)
@pytest.mark.parametrize("name", ["cir.rar", "CIR-Net.7z", "cir.tar.zst"])
def test_an_archive_that_is_not_read_here_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"packed")
    with pytest.raises(StudyError, match=rf"There lies {name}.*unpack it first"):
        datasets.load("cir", tmp_path)
    (tmp_path / "cir").mkdir()
    (tmp_path / name).rename(tmp_path / "cir" / name)
    with pytest.raises(StudyError, match=rf"There lies {name}.*unpack it first"):
        datasets.load("cir", tmp_path)


def test_endings_in_capitals_are_read(tmp_path):
    content = {name.replace(".bmp", ".BMP"): data for name, data in drawn_bioimlab(("1",)).items()}
    write_zip(tmp_path / "BioImLab.ZIP", content)
    dataset = datasets.load("bioimlab", tmp_path, size=8)
    assert len(dataset.files) == 46 and dataset.files[0] == "1/1 1a.BMP"


def test_file_names_that_are_no_utf8_are_loaded_and_kept(tmp_path):
    content = {name.replace("/1/1 ", "/caf\udce9/caf\udce9 "): data for name, data in drawn_bioimlab(("1",)).items()}
    write_folder(tmp_path / "bioimlab", content)
    first, second = (datasets.load("bioimlab", tmp_path, size=8) for _ in range(2))  # built, and from the cache
    same(first, second)
    assert set(first.cells) == {"caf\\xe9"} and first.files[0] == "caf\\xe9/caf\\xe9 1a.bmp"
    assert [file.encode() for file in first.files]


def test_a_turned_image_is_reported(tmp_path):
    """What is done to an image stands in the report, for photographs too."""
    picture, exif, buffer = Image.fromarray(np.zeros((8, 12), np.uint8)), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    picture.save(buffer, "JPEG", exif=exif)
    write_folder(tmp_path / "imagenet-sample", {"a.jpg": buffer.getvalue(), "b.jpg": encoded(5, "JPEG", mode="RGB")})
    report = datasets.load("imagenet_sample", tmp_path, size=8).report
    assert report == (
        "images turned as their EXIF orientation says: 1",
        "images stored as RGB and read as grey: 1",
    )


def test_a_surplus_strip_is_not_drawn_over_the_image(tmp_path):
    """In the layout of CIR, as such files occur: Pillow alone reads the zeros at their end, mean grey 0."""
    content = {}
    for name, data in drawn_cir().items():
        head, entries = bytearray(data), int.from_bytes(data[4:8], "little")
        extra = len(data)
        for entry in range(int.from_bytes(data[entries : entries + 2], "little")):
            begin = entries + 2 + 12 * entry
            if int.from_bytes(data[begin : begin + 2], "little") in (273, 279):  # offsets, byte counts: two of each
                value = int.from_bytes(data[begin + 8 : begin + 12], "little")
                second = extra + 64 if data[begin] == 273 - 256 else value
                struct.pack_into("<HII", head, begin + 2, 4, 2, len(head))
                head += struct.pack("<II", value, second)
        content[name] = bytes(head) + bytes(2000)
    write_folder(tmp_path / "cir", content)
    dataset = datasets.load("cir", tmp_path, size=16)
    check_cir(dataset)
    assert "images with surplus strips, which were not read: 48" in dataset.report


def test_an_unknown_class_is_refused(tmp_path):
    write_folder(tmp_path / "cir", drawn_cir() | {"origin/915.7.24.tiff": encoded(1)})
    with pytest.raises(StudyError, match=r"origin/915\.7\.24\.tiff.*'24'"):
        datasets.load("cir", tmp_path)


def test_a_set_without_its_layout_is_refused(tmp_path):
    write_folder(tmp_path / "cir", {"images/1.tiff": encoded(1)})
    with pytest.raises(StudyError, match=r"no image in the layout of cir.*<label>\.tiff"):
        datasets.load("cir", tmp_path)


def test_a_set_that_lies_there_twice_is_refused(tmp_path):
    content = drawn_bioimlab(("1",))
    write_folder(tmp_path / "bioimlab", content | {f"copy/{name}": data for name, data in content.items()})
    with pytest.raises(StudyError, match=r"found twice, 1/1 1a\.bmp and 45 more"):
        datasets.load("bioimlab", tmp_path)


@pytest.mark.fault(16, 17)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_bad_image_is_named_with_its_archive(tmp_path, own_cache):
    content = drawn_cir()
    name = next(iter(content))
    content[name] = content[name][:60]
    write_zip(tmp_path / "cir.zip", content)
    with pytest.raises(StudyError) as caught:
        datasets.load("cir", tmp_path)
    assert f"{tmp_path / 'cir.zip'}/{name}" in str(caught.value)
    assert not list(own_cache.rglob("*.npy"))


def test_an_archive_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "cir.zip").symlink_to(tmp_path / "nowhere.zip")
    with pytest.raises(StudyError, match=r"cir\.zip: cannot be read"):
        datasets.load("cir", tmp_path)


@pytest.mark.fault(14)
def test_a_cut_short_archive_is_refused(tmp_path):
    (tmp_path / "cir.tar.gz").write_bytes(tar_of(drawn_cir())[:-300])
    with pytest.raises(StudyError, match=r"cir\.tar\.gz.*cut short.*Download it again"):
        datasets.load("cir", tmp_path)


# The cache


@pytest.fixture
def cir(tmp_path):
    lay_out_cir(tmp_path / "data", "folder")
    return tmp_path / "data"


def same(one, other):
    assert one.digest == other.digest
    for field in ("images", "labels", "files"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_the_second_load_decodes_nothing(cir, monkeypatch):
    first = datasets.load("cir", cir, size=16)
    monkeypatch.setattr(images, "read_with_remarks", None)
    second = datasets.load("cir", cir, size=16)
    same(first, second)
    assert isinstance(second.images, np.memmap) and not second.images.flags.writeable


def test_cells_survive_the_cache(tmp_path):
    write_folder(tmp_path / "bioimlab", drawn_bioimlab())
    first, second = (datasets.load("bioimlab", tmp_path, size=8) for _ in range(2))
    same(first, second)
    np.testing.assert_array_equal(first.cells, second.cells)


def test_a_changed_file_is_noticed(cir):
    before = datasets.load("cir", cir, size=16)
    changed = cir / "cir" / str(before.files[0])
    changed.write_bytes(encoded(77, shape=(30, 30)))
    after = datasets.load("cir", cir, size=16)
    assert (after.images[0] == 77).all() and before.digest != after.digest


def test_sizes_do_not_mix(cir):
    assert datasets.load("cir", cir, size=16).images.shape[1:] == (16, 16)
    assert datasets.load("cir", cir, size=20).images.shape[1:] == (20, 20)


@pytest.mark.parametrize("damage", ["squares cut", "squares gone", "index cut", "index empty"])
def test_a_damaged_cache_is_made_anew(cir, own_cache, damage):
    first = datasets.load("cir", cir, size=16)
    expected = np.array(first.images)
    which, what = damage.split()
    path = next(own_cache.rglob("squares.npy" if which == "squares" else "index.json"))
    kept = path.read_bytes()[: {"cut": 500, "empty": 0}.get(what, 0)]
    path.unlink()
    if what != "gone":
        path.write_bytes(kept)
    np.testing.assert_array_equal(datasets.load("cir", cir, size=16).images, expected)


@pytest.mark.fault(5)
def test_what_a_kill_left_in_the_cache_goes_when_it_is_built(cir, own_cache):
    datasets.load("cir", cir, size=16)
    index = next(own_cache.rglob("index.json"))
    index.unlink()
    (index.parent / ".part.squares.npy.x.npy").touch()
    datasets.load("cir", cir, size=16)
    assert {file.name for file in index.parent.iterdir()} == {".lock", "index.json", "squares.npy"}


def test_jobs_that_start_together_build_the_cache_once(cir, monkeypatch):
    """Both have found no cache before either begins to build: what one has opened must not be replaced by the other."""
    opened, build, built, together = datasets._open, datasets._build, [], threading.Barrier(2)
    looked = threading.local()

    def look(*arguments):
        if not hasattr(looked, "once"):
            looked.once = together.wait(60)
            raise FileNotFoundError("not there yet")
        return opened(*arguments)

    monkeypatch.setattr(datasets, "_open", look)
    monkeypatch.setattr(datasets, "_build", lambda *arguments: built.append(1) or build(*arguments))
    with ThreadPoolExecutor(2) as jobs:
        first, second = jobs.map(lambda _: datasets.load("cir", cir, size=16), range(2))
    assert built == [1] and first.digest == second.digest


def test_a_cache_that_cannot_be_written_is_only_a_warning(cir, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file where the cache folder should be")
    monkeypatch.setenv("CHROMOLIB_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cache cannot be written"):
        dataset = datasets.load("cir", cir, size=16)
    check_cir(dataset)
    assert not dataset.images.flags.writeable


def test_nothing_half_written_stays_when_the_disk_is_full(cir, own_cache, monkeypatch):
    def full(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.warns(UserWarning, match="No space left"):
        check_cir(datasets.load("cir", cir, size=16))
    assert {path.name for path in own_cache.rglob("*") if path.is_file()} <= {".lock"}


# Embedded sets


@pytest.mark.parametrize("name, stain", [("synthetic_g", "G"), ("synthetic_q", "Q")])
def test_drawn_karyotypes(name, stain):
    dataset = datasets.load(name, size=32)
    assert dataset.stain == stain and dataset.images.shape == (len(dataset.files), 32, 32)
    cells = Counter(dataset.cells.tolist())
    assert set(cells.values()) == {46} and len(set(dataset.files.tolist())) == len(dataset.files)
    assert set(dataset.labels.tolist()) == set(range(24))
    assert any("drawings" in line for line in dataset.report)
    assert datasets.load(name, size=32).digest == dataset.digest


def test_embedded_photographs():
    dataset = datasets.load("photographs", size=32)
    assert (dataset.stain, dataset.cells, set(dataset.labels.tolist())) == ("natural", None, {-1})
    assert dataset.images.shape == (420, 32, 32) and len(set(dataset.files.tolist())) == 420


def test_the_names():
    embedded, real = ("synthetic_g", "synthetic_q", "photographs"), ("bioimlab", "pki3", "pki3_65", "cir", "imagenette")
    assert set(datasets.NAMES) >= {*embedded, *real, "imagenet_sample"}


# Real images


def test_bioimlab_whole(shared_data):
    dataset = datasets.load("bioimlab", shared_data, size=32)
    assert len(dataset.files) == len(set(dataset.files.tolist())) == 5474
    cells = set(dataset.cells.tolist())
    male = set(dataset.cells[dataset.labels == 23].tolist())
    assert (len(cells), len(male), len(cells - male)) == (119, 45, 74)
    assert dataset.report == ("images stored as RGB and read as grey: 14",)
    assert set(np.bincount(dataset.labels)[:22]) == {238}


def test_pki3_at_hand_and_its_65_regular_cells(shared_data):
    everything = datasets.load("pki3", shared_data, size=32)
    sizes = Counter(everything.cells.tolist())
    assert len(sizes) == 350 and len(set(everything.patients.tolist())) == 204
    assert everything.patients.tolist() == [cell.split(".")[0] for cell in everything.cells]
    report = "\n".join(everything.report)
    assert f"{len(everything.files):,} images, where the whole set has 28,136" in report
    assert "28 cells do not have 46 images: 97002023.12.tiff (45)" in report
    assert "97002271.13.tiff (47)" in report

    of_cir_size = datasets.load("pki3_65", shared_data, size=32)
    regular = [cell for cell in dict.fromkeys(everything.cells.tolist()) if sizes[cell] == 46]  # in natural order
    assert regular[64] == "97002184.10.tiff"  # as in the whole set
    chosen = np.isin(everything.cells, regular[:65])
    assert len(of_cir_size.files) == 65 * 46 == 2990
    np.testing.assert_array_equal(of_cir_size.files, everything.files[chosen])
    np.testing.assert_array_equal(of_cir_size.images, everything.images[chosen])
    np.testing.assert_array_equal(of_cir_size.labels, everything.labels[chosen])


def test_a_copied_archive_shares_the_cache(shared_data, tmp_path, own_cache):
    first = datasets.load("imagenet_sample", shared_data, size=32)
    assert len(first.files) == 1000 and first.images[:, 16].any(axis=1).all()
    shutil.copy(shared_data / "imagenet-sample.tar", tmp_path)
    second = datasets.load("imagenet_sample", tmp_path, size=32)
    assert second.digest == first.digest
    assert len(list(own_cache.iterdir())) == 1


def test_negatives_and_reduced_pictures(tmp_path):
    """A picture of white ground: its negative has black ground beside black padding; what is reduced has lost lines."""
    picture = np.full((64, 32), 255, np.uint8)
    picture[::2, 8:24] = 0  # lines of one pixel
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "TIFF")
    write_folder(tmp_path, {"single_clase/97002089.16.tiff/clase7/clase7_0_97002089.16.tiff": content.getvalue()})
    square, negative, reduced = (
        datasets.load("pki3", tmp_path, 64, presentation).images[0]
        for presentation in ("square", "inverted", "reduced_32")
    )
    inside = (slice(None), slice(16, 48))  # the padding is beside it
    np.testing.assert_array_equal(negative[inside], 255 - picture)
    assert not square[:, :16].any() and not negative[:, :16].any()
    np.testing.assert_array_equal(square[inside], picture)
    lines = [np.ptp(image[8:56, 28:36].mean(axis=1)) for image in (square, reduced)]
    assert lines[0] == 255 and lines[1] < 30
    assert {datasets.layout(name) for name in ("square", "inverted", "reduced_32")} == {"square"}


@pytest.mark.parametrize(
    ("presentation", "channels"), {"both": ("square", "canvas"), "crop_both": ("crop", "canvas")}.items()
)
def test_presentations_of_two_channels_are_those_of_one_each(presentation, channels):
    dataset = datasets.load("synthetic_q", size=32, presentation=presentation)
    assert dataset.images.shape == (552, 2, 32, 32)
    for index, channel in enumerate(channels):
        alone = datasets.load("synthetic_q", None, 32, channel).images
        np.testing.assert_array_equal(dataset.images[:, index], alone)
    np.testing.assert_array_equal(dataset.pictures, dataset.images[:, 0])


def test_an_unknown_presentation_is_refused():
    with pytest.raises(StudyError, match="'round' is not one of square, crop, canvas, both"):
        datasets.load("synthetic_q", presentation="round")


def test_on_canvases_a_chromosome_has_its_length(tmp_path):
    """Of 44 rods of 40 pixels and two of 20 the short ones are drawn half as long, in their own cell's scale."""
    found = {}
    for cell, scale in (("1", 1), ("2", 2)):
        for number in (f"{n}{copy}" for n in range(1, 24) for copy in "ab"):
            picture = np.zeros((100, 30), np.uint8)
            picture[10 : 10 + scale * (20 if number.startswith("21") else 40), 10:14] = 200
            found[f"single_chromosomes/{cell}/{cell} {number}.bmp"] = file_of(picture)
    write_folder(tmp_path, found)
    dataset = datasets.load("bioimlab", tmp_path, size=64, presentation="canvas")
    heights = (dataset.images > 20).any(axis=2).sum(axis=1)
    assert set(heights[dataset.labels == 20]) == {29, 30} or set(heights[dataset.labels == 20]) == {29}
    assert set(heights[dataset.labels != 20]) == {59}
    np.testing.assert_array_equal(dataset.sizes[dataset.labels == 20, 0], [80, 80, 160, 160])


def file_of(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "BMP")
    return buffer.getvalue()


def test_patients_are_the_first_part_of_a_cells_name(tmp_path):
    cells = [f"970{patient}.{number}.tiff" for patient in (1, 2) for number in (3, 14)]
    content = {f"single_clase/{cell}/clase7/clase7_0_{cell}": encoded(90) for cell in cells}
    write_folder(tmp_path, content)
    dataset = datasets.load("pki3", tmp_path, size=16)
    assert dataset.patients.tolist() == ["9701", "9701", "9702", "9702"] == dataset.groups("patient").tolist()
    assert dataset.groups("cell").tolist() == cells
    assert datasets.load("synthetic_g", size=16).groups("patient")[0] == "cell01"  # the cell stands for the patient


def test_a_part_of_pki3_says_which_of_the_65_cells_it_lacks(tmp_path):
    write_folder(tmp_path, {"single_clase/97002089.16.tiff/clase7/clase7_0_97002089.16.tiff": encoded(90)})
    with pytest.raises(StudyError, match=r"65 cells, of which 65 are not here.*9700TEST.6.tiff"):
        datasets.load("pki3_65", tmp_path, size=16)
