"""One image file to grey values, and grey values to a square. Nothing doubtful is read silently."""

import io
import warnings

import numpy as np
from PIL import Image

from chromolib.errors import StudyError

FORMATS = ("BMP", "JPEG", "PNG", "TIFF")  # Pillow knows many more, some of which start other programs
MAX_PIXELS = 50_000_000  # [ours] any camera's photograph; below the limit from which on Pillow warns

# Once and for all: a filter set for a while, as images are read by several threads, would be set for all of them.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def read(data, name):
    """Grey values of an image file: (height, width) uint8.

    data: the file's content as bytes; name: what a message calls it. Colour (RGB, CMYK) becomes luminance (ITU-R
    601-2, as Pillow's "L"), which leaves a grey image stored as RGB untouched. A palette or an opaque alpha channel
    is accepted where the picture is grey all the same. Raises StudyError for anything else than one whole
    8-bit picture: empty, no image, cut short, 16-bit or float, transparent, several pages, forged size.
    """
    return read_with_mode(data, name)[0]


def read_with_mode(data, name):
    """As `read`, and how the file stores the picture (Pillow's mode, such as "L" or "RGB")."""
    if not data:
        raise StudyError(f"{name}: the file is empty. Copy it again from its source.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check(picture, name)
            mode = picture.mode
            picture.load()
            grey = _grey(picture, name)
    except StudyError:
        raise
    except Image.UnidentifiedImageError:
        raise StudyError(
            f"{name}: not an image ({_looks_like(data)}). Expected is one of {', '.join(FORMATS)}; get the file again."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # `_check` refuses what lies below both
        raise _too_large(name) from None
    except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, struct.error and others
        raise StudyError(f"{name}: damaged or cut short ({error}). Copy it again from its source.") from error
    return grey, mode


def square(image, size=256, fill=0):
    """Pad the shorter side with `fill`, centred, to a square, then resize: (size, size) uint8.

    image: (h, w) uint8. Black padding and bilinear interpolation are the study's preprocessing [paper]; Pillow's
    bilinear filter widens when it shrinks, so that nothing aliases. On a white background (pki3) the black padding
    leaves a border. Raises StudyError for another shape or type.
    """
    image = np.asarray(image)
    if image.ndim != 2 or image.dtype != np.uint8 or not image.size:
        raise StudyError(f"square() takes one grey image (h, w) uint8, not {image.shape} {image.dtype}")
    height, width = image.shape
    side = max(height, width)
    canvas = np.full((side, side), fill, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = image
    return np.array(Image.fromarray(canvas).resize((size, size), Image.Resampling.BILINEAR))


def foreground(image):
    """Where a crop shows chromosome: (h, w) bool; all of it where nothing differs from the ground.

    image: (h, w) uint8. The ground is black or white, whichever most of the border is nearer to; what differs from it
    by more than 10 grey levels counts. [ours]
    """
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    mask = image > 10 if np.median(border) < 128 else image < 245
    return mask if mask.any() else ~mask


def crop(image):
    """The tightest rectangle around the foreground: (h, w) uint8."""
    mask = foreground(image)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def area_and_length(image):
    """Size of the chromosome in an image: (area, length) in its pixels, two floats.

    area: number of foreground pixels; length: four times the larger SD of their coordinates, along the axis in which
    they spread most, which for a rod of even thickness is 1.15 times its length. [ours]
    """
    points = np.argwhere(foreground(image))  # (area, 2)
    spread = np.linalg.eigvalsh(np.cov(points.T, bias=True)) if len(points) > 1 else np.zeros(2)
    return float(len(points)), float(4 * np.sqrt(max(spread[-1], 0)))


def canvases(crops, size):
    """Chromosomes of one cell at one scale, each centred on black: (n, size, size) uint8.

    crops: tight crops (h, w) uint8 of the cell. The 95th percentile of their longer sides takes up 0.92 of the canvas
    (118 of 128 pixels); what would still not fit is shrunk until it does. [ours]
    """
    sides = np.array([max(part.shape) for part in crops])
    scales = np.minimum(0.92 * size / np.percentile(sides, 95), size / sides)
    drawn = np.zeros((len(crops), size, size), np.uint8)
    for canvas, part, scale in zip(drawn, crops, scales, strict=True):
        height, width = (max(1, round(side * scale)) for side in part.shape)
        top, left = (size - height) // 2, (size - width) // 2
        resized = Image.fromarray(part).resize((width, height), Image.Resampling.BILINEAR)
        canvas[top : top + height, left : left + width] = resized
    return drawn


def centre(image, size=256):
    """The central square of an image, resized: (size, size) uint8; for photographs, which fill their frame.

    image: (h, w) uint8. This is how ImageNet networks are shown photographs; black bars, as `square` pads them, would
    make a photograph resemble the crop of a chromosome. [ours]: the paper does not say. Raises as `square`.
    """
    height, width = np.shape(image)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return square(np.asarray(image)[top : top + side, left : left + side], size)


def _check(picture, name):
    """Refuse by what the header says, before anything is decoded."""
    if picture.width * picture.height > MAX_PIXELS:
        raise _too_large(name)
    if getattr(picture, "n_frames", 1) > 1:
        raise StudyError(f"{name}: holds {picture.n_frames} pages. Save the one that is meant as a file of its own.")
    # Pillow cuts 16-bit colour to 8 bits without a word; only the raw mode of its tiles still tells.
    if picture.mode.startswith(("I", "F")) or any(";16" in str(tile) for tile in picture.tile):
        raise StudyError(f"{name}: more than 8 bits a pixel. Scale it to 8 bits (0-255) yourself, stating how.")
    if picture.mode not in ("L", "RGB", "CMYK", "P", "LA", "RGBA"):
        raise StudyError(f"{name}: unknown pixel type {picture.mode}. Save it as an 8-bit grey image.")


def _grey(picture, name):
    """Grey values of a decoded picture; refused where that would lose more than colour of a photograph."""
    if picture.mode == "L" and "transparency" not in picture.info:
        return np.array(picture)
    if "transparency" in picture.info or picture.mode in ("LA", "RGBA"):
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] < 255:
            raise StudyError(f"{name}: partly transparent. Flatten it on its background and save it as 8-bit grey.")
        return _equal_channels(picture.convert("RGB"), name)
    if picture.mode == "P":
        return _equal_channels(picture.convert("RGB"), name)
    return np.array(picture.convert("RGB").convert("L"))


def _equal_channels(picture, name):
    red, green, blue = (np.asarray(channel) for channel in picture.split())
    if not (np.array_equal(red, green) and np.array_equal(red, blue)):
        raise StudyError(f"{name}: coloured, with a palette or an alpha channel. Save it as an 8-bit grey image.")
    return red.copy()


def _too_large(name):
    return StudyError(
        f"{name}: its header claims more than {MAX_PIXELS:,} pixels, so the file is forged or no image of this study. "
        "Replace it, or reduce it before use."
    )


def _looks_like(data):
    start = data[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    return "text" if start.isascii() and start.decode("ascii").isprintable() else "no known format"
