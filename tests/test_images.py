"""Every kind of file that may lie in a data folder: read rightly or refused with words."""

import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
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
    array, stored = images.read_with_mode(encoded(Image.fromarray(grey).convert(mode)), "x")
    assert stored == mode
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
    assert "not an image" in refusal(bytes(range(256)))
    assert "not an image" in refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # would start Ghostscript


@pytest.mark.fault(16)
@pytest.mark.parametrize("format", ["BMP", "PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(format, share):
    array = np.random.default_rng(1).integers(0, 256, (90, 70), dtype=np.uint8)
    data = encoded(array, format)
    refusal(data[: int(len(data) * share)])


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
