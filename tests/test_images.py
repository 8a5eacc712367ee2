"""Every kind of file that may lie in a data folder: read rightly or refused with words."""

import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from chromolib import images
from chromolib.errors import StudyError


def encoded(array_or_picture, format="PNG", **options):
    picture = array_or_picture
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def refusal(data):
    with pytest.raises(StudyError) as caught:
        images.read(data, "cell7/7 3a.bmp")
    message = str(caught.value)
    assert message.startswith("cell7/7 3a.bmp: ")
    return message


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (23, 17), dtype=np.uint8)


@pytest.mark.parametrize("format", ["BMP", "PNG", "TIFF"])
def test_grey_files_are_read_unchanged(grey, format):
    np.testing.assert_array_equal(images.read(encoded(grey, format), "x"), grey)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_grey_picture_in_more_channels_is_untouched(grey, mode):
    array, remarks = images.read_with_remarks(encoded(Image.fromarray(grey).convert(mode)), "x")
    assert remarks == (f"stored as {mode} and read as grey",)
    np.testing.assert_array_equal(array, grey)


def test_a_grey_palette_is_followed(grey):
    picture = Image.frombytes("P", (17, 23), grey.tobytes())
    picture.putpalette([255 - value for value in range(256) for _ in range(3)])  # an inverted one
    np.testing.assert_array_equal(images.read(encoded(picture), "x"), 255 - grey)


def test_a_colour_photograph_becomes_luminance():
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[:8], colours[8:] = (200, 100, 50), (10, 20, 250)
    expected = colours @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    np.testing.assert_allclose(images.read(encoded(colours), "x"), expected, atol=0.51)
    jpeg = images.read(encoded(colours, "JPEG", quality=95), "x")
    np.testing.assert_allclose(jpeg, expected, atol=4)


def test_a_cmyk_photograph_is_read():
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 3] = 155  # black ink alone: grey 100
    data = encoded(Image.frombytes("CMYK", (8, 8), ink.tobytes()), "TIFF")
    np.testing.assert_allclose(images.read(data, "x"), 100, atol=1)


@pytest.mark.fault(17)
def test_empty_and_no_image():
    assert "empty" in refusal(b"")
    assert "text" in refusal(b"chromosome 3 of cell 7")
    assert "web page" in refusal(b"<!DOCTYPE html><html><body>Sign in</body></html>")
    assert "Git LFS" in refusal(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    assert "a GIF of a kind that is not read" in refusal(encoded(Image.new("L", (5, 5)), "GIF"))
    assert "HEIC" in refusal(b"\0\0\0\x18ftypheic" + bytes(90))
    assert "not an image" in refusal(bytes(range(256)))
    assert "not an image" in refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # would start Ghostscript


@pytest.mark.fault(16)
@pytest.mark.parametrize("format", ["BMP", "PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(format, share):
    array = np.random.default_rng(1).integers(0, 256, (90, 70), dtype=np.uint8)
    data = encoded(array, format)
    refusal(data[: int(len(data) * share)])


def test_the_checksums_of_a_png_count(grey):
    """Pillow alone passes over them, and returns another picture for some files with a flipped bit."""
    data = bytearray(encoded(grey))
    data[-13] ^= 1  # the last byte before the twelve of IEND: of the checksum of the pixels
    assert "checksum" in refusal(bytes(data))


@pytest.mark.fault(16)
@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGB", "RGBA"])
def test_a_png_whose_pixels_end_a_row_early_is_refused(grey, mode):
    """Its checksums are right, and Pillow alone leaves the missing row black without a word."""
    picture = Image.frombytes("P", (17, 23), grey.tobytes()) if mode == "P" else Image.fromarray(grey).convert(mode)
    if mode == "P":
        picture.putpalette([value for value in range(256) for _ in range(3)])
    data = bytearray(encoded(picture))
    data[20:24] = struct.pack(">I", 24)  # the height in its header, whose checksum follows
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert "damaged or cut short (fewer pixels than its header says)" in refusal(bytes(data))


@pytest.mark.fault(19)
def test_more_than_eight_bits_is_refused():
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    assert "8 bits" in refusal(encoded(deep))
    assert "8 bits" in refusal(encoded(deep, "TIFF"))
    assert "8 bits" in refusal(encoded(deep.astype(np.float32), "TIFF"))
    assert "8 bits" in refusal(encoded(deep.astype(np.int32), "TIFF"))


@pytest.mark.fault(19)
def test_sixteen_bit_colour_is_refused():
    """Pillow would cut it to 8 bits without a word."""
    assert "8 bits" in refusal(png_header_and_rows(4, 4, depth=16, colour=2, row=b"\0" + bytes(4 * 6)))


@pytest.mark.fault(20)
def test_transparency_is_refused(grey):
    transparent = np.dstack([grey, grey, grey, np.full_like(grey, 254)])
    assert "transparent" in refusal(encoded(transparent))
    assert "transparent" in refusal(encoded(grey, transparency=int(grey[0, 0])))
    assert "coloured" in refusal(encoded(Image.new("RGBA", (5, 5), (10, 20, 30, 255))))


@pytest.mark.fault(20)
def test_colour_palette_and_bilevel_are_refused(grey):
    picture = Image.frombytes("P", (17, 23), grey.tobytes())
    picture.putpalette([value % 251 for value in range(768)])
    assert "coloured" in refusal(encoded(picture))
    assert "pixel type 1" in refusal(encoded(Image.new("1", (9, 9))))


@pytest.mark.fault(20)
def test_several_pages_are_refused(grey):
    pages = [Image.fromarray(grey)] * 3
    assert "3 pages" in refusal(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))


@pytest.mark.fault(18)
@pytest.mark.parametrize("how", ["error", "default"])  # the library's own filter, and none
@pytest.mark.parametrize("side", [7_100, 10_000, 12_000, 60_000])
def test_a_forged_size_is_refused_before_decoding(side, how):
    with warnings.catch_warnings():
        warnings.simplefilter(how, Image.DecompressionBombWarning)
        assert "pixels" in refusal(png_header_and_rows(side, side, depth=8, colour=0, row=b"\0"))


def test_pillows_warning_of_bombs_is_an_error():
    code = (
        "import warnings, chromolib.images; from PIL import Image; warnings.warn('big', Image.DecompressionBombWarning)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "DecompressionBombWarning: big" in done.stderr


@pytest.mark.fault(18)
def test_a_forged_size_below_the_limit_is_damaged():
    data = bytearray(encoded(np.zeros((9, 9), np.uint8), "BMP"))
    data[18:26] = struct.pack("<ii", 5000, 5000)
    assert "damaged" in refusal(bytes(data))


def png_header_and_rows(width, height, depth, colour, row):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = zlib.compress(row * min(height, 4))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_square_pads_the_shorter_side_in_the_middle():
    image = np.full((4, 2), 9, np.uint8)
    expected = [[0, 9, 9, 0]] * 4
    np.testing.assert_array_equal(images.square(image, size=4), expected)
    np.testing.assert_array_equal(images.square(image.T, size=4, fill=255)[:, 0], [255, 9, 9, 255])
    np.testing.assert_array_equal(images.square(np.full((3, 2), 9, np.uint8), size=3)[0], [9, 9, 0])


def test_square_enlarges_bilinearly():
    """Pixel centres at half integers, edges repeated: 2 -> 4 pixels takes 1/4 and 3/4 of the neighbours."""
    enlarged = images.square(np.array([[0, 100], [0, 100]], np.uint8), size=4)
    np.testing.assert_array_equal(enlarged, [[0, 25, 75, 100]] * 4)


def test_square_keeps_the_mean_when_it_shrinks():
    stripes = np.tile(np.array([0, 200], np.uint8), (64, 32))
    np.testing.assert_allclose(images.square(stripes, size=8)[2:-2, 2:-2], 100, atol=6)


@pytest.mark.parametrize("bad", [np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3)), np.zeros((0, 3), np.uint8)])
def test_square_refuses_what_is_no_grey_image(bad):
    with pytest.raises(StudyError, match=r"\(h, w\) uint8"):
        images.square(bad)


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (20, 20)])
def test_the_centre_of_a_photograph_is_kept_without_bars(shape):
    image = np.zeros(shape, np.uint8)
    top, left = (shape[0] - 20) // 2, (shape[1] - 20) // 2
    image[top : top + 20, left : left + 20] = 200
    np.testing.assert_array_equal(images.centre(image, 16), np.full((16, 16), 200))


# TIFF tags: what each says, with tifffile as the reference


def tiff_with_tags(data, **changed):
    """A TIFF of tifffile with the values of some tags replaced, in place; a new value must not be longer."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        where = {name: tags[name] for name in changed}
    data = bytearray(data)
    for name, value in changed.items():
        tag = where[name]
        if value is None:  # another number, which nobody knows, in place of the tag's own
            struct.pack_into("<H", data, tag.offset, 65000)
        else:
            code = {3: "H", 4: "I"}[int(tag.dtype)]
            struct.pack_into(f"<{np.size(value)}{code}", data, tag.valueoffset, *np.atleast_1d(value))
    return bytes(data)


def tiff_of(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def tiff_by_hand(array, offsets, rows, *extra, tail=b""):
    """A little-endian grey TIFF with any offsets of strips relative to the pixels' first byte, and further tags."""
    height, width = array.shape
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, [8]), 259: (3, [1]), 262: (3, [1]), 277: (3, [1])}
    tags |= {278: (4, [rows]), 279: (4, [rows * width] * len(offsets)), 273: (4, offsets)} | dict(extra)
    directory, values = b"", b""
    begin = 8 + 2 + 12 * len(tags) + 4
    pixels = begin + sum(4 * len(value) for _, value in tags.values() if len(value) > 1)
    for number, (kind, value) in sorted(tags.items()):
        value = [pixels + offset for offset in value] if number == 273 else value
        packed = struct.pack(f"<{len(value)}I", *value)
        field = packed if len(value) == 1 else struct.pack("<I", begin + len(values))
        values += packed if len(value) > 1 else b""
        directory += struct.pack("<HHI", number, kind, len(value)) + field
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + values
    return head + array.tobytes() + tail


@pytest.mark.parametrize("rows, offsets", [(24, [0, 24 * 16]), (2**32 - 1, [0, 24 * 16]), (16, [0, 16 * 16, 24 * 16])])
@pytest.mark.parametrize("tail", [b"", bytes(24 * 16)], ids=["at the end", "enough bytes"])
def test_surplus_strips_are_not_read(rows, offsets, tail):
    """Pillow takes the first for a cut short file, and decodes the second over the picture."""
    array = np.random.default_rng(3).integers(1, 256, (24, 16), dtype=np.uint8)
    data = tiff_by_hand(array, offsets, rows, (279, (4, [10**6] * len(offsets))), tail=tail)
    grey, remarks = images.read_with_remarks(data, "x")
    np.testing.assert_array_equal(grey, array)
    assert remarks == ("with surplus strips, which were not read",)


def test_one_strip_of_two_is_refused():
    """Pillow leaves the rest black."""
    array = np.full((24, 16), 200, np.uint8)
    assert "1 strips, where the picture has 2" in refusal(tiff_by_hand(array, [0], 12))


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 5}, {"tile": (16, 32)}, {"photometric": "miniswhite"}])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", [{"byteorder": "<"}, {"byteorder": ">"}, {"byteorder": "<", "bigtiff": True}])
def test_a_tiff_is_read_as_tifffile_wrote_it(options, compression, kind):
    array = np.random.default_rng(4).integers(0, 256, (41, 37), dtype=np.uint8)
    data = tiff_of(array, compression=compression, **kind, **options)
    inverted = "photometric" in options
    grey, remarks = images.read_with_remarks(data, "x")
    np.testing.assert_array_equal(grey, 255 - array if inverted else array)
    assert remarks == (("stored with 0 as white, and turned round",) if inverted else ())


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 7}, {"tile": (16, 16)}])
def test_a_coloured_tiff_in_one_plane_or_three(planes, options):
    colours = np.random.default_rng(5).integers(0, 256, (33, 20, 3), dtype=np.uint8)
    stored = np.moveaxis(colours, -1, 0) if planes == "separate" else colours
    data = tiff_of(stored, photometric="rgb", planarconfig=planes, **options)
    expected = colours @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(images.read(data, "x"), expected, atol=0.51)


def test_reversed_bits_are_read_as_the_tag_says():
    array = np.arange(96, dtype=np.uint8).reshape(8, 12)
    reversed_bits = np.packbits(np.unpackbits(array[..., None], axis=2)[..., ::-1], axis=2)[..., 0]
    data = tiff_by_hand(reversed_bits, [0], 8, (266, (3, [2])))
    np.testing.assert_array_equal(images.read(data, "x"), array)


def test_tags_that_change_what_pixels_mean_are_refused():
    array = np.arange(96, dtype=np.uint8).reshape(8, 12)
    assert "signed" in refusal(tiff_of(array.astype(np.int8)))
    assert "less than 8 bits" in refusal(tiff_by_hand(array, [0], 8, (258, (3, [4]))))
    assert "8 bits" in refusal(tiff_of(array.astype(np.int16)))
    assert "PhotometricInterpretation" in refusal(tiff_with_tags(tiff_of(array), PhotometricInterpretation=None))
    assert "too short" in refusal(tiff_with_tags(tiff_of(array), StripByteCounts=50))
    assert "predictor" in refusal(tiff_by_hand(array, [0], 8, (317, (3, [2]))))
    assert "both strips and tiles" in refusal(
        tiff_by_hand(array, [0], 8, (322, (4, [16])), (323, (4, [16])), (324, (4, [0])))
    )
    ramp = [(262, (3, [3])), (320, (4, list(range(256)) * 3))]  # grey, from 0 to 255 where TIFF has 65,535
    assert "a palette of 8 bits" in refusal(tiff_by_hand(array, [0], 8, *ramp))
    assert "a TIFF of a kind" in refusal(
        tiff_with_tags(tiff_of(array), PhotometricInterpretation=32803)
    )  # a raw mosaic


def test_the_small_copy_of_a_picture_is_not_taken_for_it():
    """Cameras put a thumbnail first, and the picture itself into its sub-directory, where Pillow does not look."""
    array = np.random.default_rng(6).integers(0, 256, (41, 37), dtype=np.uint8)

    def written(first, second, kinds):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as file:
            file.write(first, subifds=1, subfiletype=kinds[0], photometric="minisblack")
            file.write(second, subfiletype=kinds[1], photometric="minisblack")
        return buffer.getvalue()

    assert "a small copy" in refusal(written(array[::2, ::2], array, (1, 0)))
    np.testing.assert_array_equal(images.read(written(array, array[::2, ::2], (0, 1)), "x"), array)


# Photographs as telephones leave them


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed_and_reported(format, orientation):
    """The eight cases of the EXIF standard: where row 0 and column 0 of the stored picture belong."""
    array = np.zeros((16, 32), np.uint8)
    array[:8, :8], array[:8, 24:] = 240, 120  # top left, top right
    upright = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.T,
        6: np.rot90(array, -1),
        7: array[::-1, ::-1].T,
        8: np.rot90(array),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {274: orientation}} if format == "TIFF" else {"exif": exif}
    grey, remarks = images.read_with_remarks(encoded(array, format, **options), "x")
    np.testing.assert_allclose(grey.astype(int), upright, atol=3)
    assert remarks == (() if orientation == 1 else ("turned as their EXIF orientation says",))


def test_of_a_telephones_photograph_the_first_picture_is_read():
    first, second = (Image.fromarray(np.full((40, 30), level, np.uint8)) for level in (200, 20))
    grey, remarks = images.read_with_remarks(encoded(first, "MPO", save_all=True, append_images=[second]), "x")
    np.testing.assert_allclose(grey, np.full((40, 30), 200), atol=2)
    assert remarks == ("of several pictures in a file (MPO), of which the first was read",)


# Presentations


def rod(ground, shape=(60, 40), rows=slice(10, 50), columns=slice(18, 26)):
    """A grey rod of 40 x 8 pixels on its ground."""
    image = np.full(shape, ground, np.uint8)
    image[rows, columns] = 128
    return image


@pytest.mark.parametrize("ground", [0, 1, 250, 255])
def test_the_foreground_is_told_from_black_and_from_white(ground):
    mask = images.foreground(rod(ground))
    assert mask.sum() == 320 and mask[10:50, 18:26].all()
    assert images.crop(rod(ground)).shape == (40, 8)


def test_an_image_that_is_all_ground_is_shown_whole():
    assert images.crop(np.zeros((5, 7), np.uint8)).shape == (5, 7)


@pytest.mark.parametrize("turned", [False, True])
def test_area_and_length_of_a_rod(turned):
    area, length = images.area_and_length(rod(0).T if turned else rod(0))
    assert area == 320
    assert length == pytest.approx(4 * np.sqrt((40**2 - 1) / 12))  # SD of 0, 1, ..., 39


def test_the_length_of_a_slanting_rod_is_that_along_it():
    image = np.zeros((80, 80), np.uint8)
    image[np.arange(50), np.arange(50)] = 200
    assert images.area_and_length(image)[1] == pytest.approx(4 * np.sqrt(2 * (50**2 - 1) / 12))


def test_canvases_keep_the_proportions_of_a_cell():
    crops = [np.full((side, 5), 200, np.uint8) for side in [100] * 30 + [50]]
    drawn = images.canvases(crops, 128)
    heights = [len(images.crop(canvas)) for canvas in drawn]
    assert heights[0] == 118 and heights[-1] == 59  # the 95th percentile takes up 0.92 of 128 pixels
    centre = [np.argwhere(canvas).mean(axis=0) for canvas in drawn]
    np.testing.assert_allclose(centre, 63.5, atol=0.5)


def test_what_would_not_fit_on_the_canvas_is_shrunk():
    crops = [np.full((side, side), 200, np.uint8) for side in [10] * 99 + [60]]
    assert (images.canvases(crops, 32)[-1] > 0).all()
