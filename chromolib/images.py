"""One image file to grey values, and grey values to a square. Nothing doubtful is read silently."""

import io
import operator
import warnings
from math import ceil

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL import TiffImagePlugin as tiff

from chromolib import files, measures
from chromolib.errors import StudyError

FORMATS = ("BMP", "JPEG", "PNG", "TIFF")  # Pillow knows many more, some of which start other programs
_NOT_READ = {  # beginnings of files that look like images elsewhere
    "a TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "a GIF": b"GIF8",
    "a WebP": b"RIFF",
    "a telephone's HEIC": tuple(bytes([0, 0, 0, size]) + b"ftyp" for size in range(16, 64)),
    "a JPEG 2000": b"\0\0\0\x0cjP  ",
    "a microscope's CZI": b"ZISRAWFILE",
}
MAX_PIXELS = 50_000_000  # [ours] any camera's photograph; below the limit from which on Pillow warns

# Once and for all: a filter set for a while, as images are read by several threads, would be set for all of them.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def read(data, name):
    """Grey values of an image file: (height, width) uint8.

    data: the file's content as bytes; name: what a message calls it. Colour (RGB, CMYK) becomes
    luminance (ITU-R 601-2, as Pillow's "L"), which leaves a grey image stored as RGB untouched. A
    palette or an opaque alpha channel is accepted where the picture is grey all the same. A picture
    is turned as its EXIF orientation says; of the pictures that a telephone stores with a
    photograph (MPO) the first is taken. Raises StudyError for anything else than one whole 8-bit
    picture: empty, no image, cut short, 16-bit, signed or float, transparent, several pages, forged
    size, a TIFF whose tags contradict each other.
    """
    return read_with_remarks(data, name)[0]


def read_with_remarks(data, name):
    """As `read`, and a tuple of words on what was done to the stored picture, such as "turned by its EXIF tag"."""
    if not data:
        raise StudyError(f"{name}: the file is empty. Copy it again from its source.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            picture.verify()  # the checksums of a PNG, at which load() does not look
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check(picture, name)
            remarks = _remarks(picture) + (_settle_tags(picture, name) if picture.format == "TIFF" else ())
            picture.load()  # Pillow turns a TIFF here, and nothing else
            _check_end(picture, data)
            ImageOps.exif_transpose(picture, in_place=True)
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
    return grey, remarks


def square(image, size=256, fill=0):
    """Pad the shorter side with `fill`, centred, to a square, then resize: (size, size) uint8.

    image: (h, w) uint8. Black padding and bilinear interpolation are the study's preprocessing
    [paper]; Pillow's bilinear filter widens when it shrinks, so that nothing aliases. On a white
    background (pki3) the black padding leaves a border. Raises StudyError for another shape or
    type.
    """
    image = np.asarray(image)
    if image.ndim != 2 or image.dtype != np.uint8 or not image.size:
        raise StudyError(f"square() takes one grey image (h, w) uint8, not {image.shape} {image.dtype}")
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padding = ((top, side - height - top), (left, side - width - left))
    canvas = np.pad(image, padding, constant_values=fill)  # (side, side)
    return np.array(Image.fromarray(canvas).resize((size, size), Image.Resampling.BILINEAR))


def has_light_ground(image):
    """Whether most of the border of an image (h, w) uint8 is nearer to white than to black."""
    return bool(np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])) >= 128)


def foreground(image):
    """Where a crop shows chromosome: (h, w) bool; all of it where nothing differs from the ground.

    image: (h, w) uint8. What differs by more than 10 grey levels from its ground, black or white,
    counts. [ours]
    """
    mask = image < 245 if has_light_ground(image) else image > 10
    return mask if mask.any() else ~mask


def crop(image):
    """The tightest rectangle around the foreground: (h, w) uint8."""
    return image[measures.box(foreground(image))]


def area_and_length(image):
    """Size of the chromosome in an image: (area, length) in its pixels, two floats.

    area: number of foreground pixels; length: four times the larger SD of their coordinates, along
    the axis in which they spread most, which for a rod of even thickness is 1.15 times its length.
    [ours]
    """
    points = np.argwhere(foreground(image))  # (area, 2)
    spread = np.linalg.eigvalsh(np.cov(points.T, bias=True)) if len(points) > 1 else np.zeros(2)
    return float(len(points)), float(4 * np.sqrt(max(spread[-1], 0)))


def canvases(crops, size):
    """Chromosomes of one cell at one scale, each centred on black: (n, size, size) uint8.

    crops: tight crops (h, w) uint8 of the cell. The 95th percentile of their longer sides takes up
    0.92 of the canvas (118 of 128 pixels); what would still not fit is shrunk until it does. [ours]
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

    image: (h, w) uint8. This is how ImageNet networks are shown photographs; black bars, as
    `square` pads them, would make a photograph resemble the crop of a chromosome. [ours]: the paper
    does not say. Raises as `square`.
    """
    height, width = np.shape(image)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return square(np.asarray(image)[top : top + side, left : left + side], size)


def _check(picture, name):
    """Refuse by what the header says, before anything is decoded."""
    if picture.width * picture.height > MAX_PIXELS:
        raise _too_large(name)
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        raise StudyError(f"{name}: holds {picture.n_frames} pages. Save the one that is meant as a file of its own.")
    # Pillow cuts 16-bit colour to 8 bits without a word; only the raw mode of its tiles still tells.
    if picture.mode.startswith(("I", "F")) or any(";16" in str(tile) for tile in picture.tile):
        raise StudyError(f"{name}: more than 8 bits a pixel. Scale it to 8 bits (0-255) yourself, stating how.")
    if picture.mode not in ("L", "RGB", "CMYK", "P", "LA", "RGBA"):
        raise StudyError(f"{name}: unknown pixel type {picture.mode}. Save it as an 8-bit grey image.")


def _check_end(picture, data):
    """Refuse a loaded PNG whose pixels end early: there Pillow leaves its memory as it was, black or, here, white."""
    if picture.format == "PNG":
        with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
            again.im = Image.new(again.mode, again.size, (255,) * len(again.getbands())).im
            if again.tobytes() != picture.tobytes():
                raise OSError("fewer pixels than its header says")


def _remarks(picture):
    """What `read` changes in a picture that is not yet loaded."""
    orientation = picture.getexif().get(ExifTags.Base.Orientation)
    changes = {
        f"stored as {picture.mode} and read as grey": picture.mode != "L",
        "turned as their EXIF orientation says": orientation in range(2, 9),
        "of several pictures in a file (MPO), of which the first was read": picture.format == "MPO",
    }
    return tuple(words for words, changed in changes.items() if changed)


def _settle_tags(picture, name):
    """Refuse a TIFF that Pillow would misread without a word, and have it read only what the picture needs.

    Files in the wild name more strips than their picture has; Pillow decodes the surplus ones over
    it.
    """
    tags, raw = picture.tag_v2, picture.info["compression"] == "raw"
    kind, offsets, counts, sizes = _blocks(tags)
    faults = {
        "signed numbers (SampleFormat)": set(tags.get(tiff.SAMPLEFORMAT, (1,))) != {1},
        "less than 8 bits (BitsPerSample)": set(tags.get(tiff.BITSPERSAMPLE, (1,))) & {2, 4},
        "no word on whether 0 is black (PhotometricInterpretation)": tiff.PHOTOMETRIC_INTERPRETATION not in tags,
        "a small copy of a picture that is not read (SubIFDs)": tiff.SUBIFD in tags
        and tags.get(ExifTags.Base.NewSubfileType, 0) & 1,
        "a palette of 8 bits, where TIFF has 16 (ColorMap)": max(tags.get(tiff.COLORMAP, (256,))) < 256,
        "both strips and tiles": tiff.STRIPOFFSETS in tags and tiff.TILEOFFSETS in tags,
        "a predictor without compression": raw and tags.get(tiff.PREDICTOR, 1) != 1,
        f"{len(offsets)} {kind}, where the picture has {len(sizes)}": len(offsets) < len(sizes),
        f"{kind} that are too short": raw and any(map(operator.lt, counts, sizes)),
    }
    for fault in (words for words, present in faults.items() if present):
        raise StudyError(f"{name}: its TIFF tags tell of {fault}. Save it as a plain 8-bit grey image.")
    if raw:  # Pillow takes the last of several strips that each could hold the whole picture
        needed = zip(picture.tile, offsets[: len(sizes)], strict=False)
        picture.tile = [tile._replace(offset=offset) for tile, offset in needed]
    changes = {
        f"with surplus {kind}, which were not read": len(offsets) > len(sizes),
        "stored with 0 as white, and turned round": tags[tiff.PHOTOMETRIC_INTERPRETATION] == 0,
    }
    return tuple(words for words, changed in changes.items() if changed)


def _blocks(tags):
    """What the picture of a TIFF is stored in: "strips" or "tiles", where each begins, how many bytes each is said
    to have, and how many each of those that the picture needs must have where nothing is compressed."""
    width, height, samples = tags[tiff.IMAGEWIDTH], tags[tiff.IMAGELENGTH], tags.get(tiff.SAMPLESPERPIXEL, 1)
    planes = samples if tags.get(tiff.PLANAR_CONFIGURATION, 1) == 2 else 1
    if tiff.TILEOFFSETS in tags:
        across, down = tags[tiff.TILEWIDTH], tags[tiff.TILELENGTH]
        areas = [across * down] * (ceil(width / across) * ceil(height / down))
        found = "tiles", tags[tiff.TILEOFFSETS], tags.get(tiff.TILEBYTECOUNTS, ())
    else:
        rows = min(tags.get(tiff.ROWSPERSTRIP, height), height)
        areas = [width * min(rows, height - top) for top in range(0, height, rows)]
        found = "strips", tags[tiff.STRIPOFFSETS], tags.get(tiff.STRIPBYTECOUNTS, ())
    return *found, [area * samples // planes for area in areas] * planes


def _grey(picture, name):
    """Grey values of a decoded picture; refused where that would lose more than colour of a photograph."""
    has_alpha = "transparency" in picture.info or picture.mode in ("LA", "RGBA")
    if has_alpha and picture.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        raise StudyError(f"{name}: partly transparent. Flatten it on its background and save it as 8-bit grey.")
    if has_alpha or picture.mode == "P":
        colours = np.array(picture.convert("RGBA").convert("RGB"))  # (h, w, 3)
        if np.ptp(colours, axis=2).any():
            raise StudyError(f"{name}: coloured, with a palette or an alpha channel. Save it as an 8-bit grey image.")
        return colours[..., 0].copy()
    return np.array(picture if picture.mode == "L" else picture.convert("RGB").convert("L"))


def _too_large(name):
    return StudyError(
        f"{name}: its header claims more than {MAX_PIXELS:,} pixels, so the file is forged or no image of this study. "
        "Replace it, or reduce it before use."
    )


def _looks_like(data):
    start = data[:200].lstrip().lower()
    if other := files.kind(start, files.IN_PLACE):
        return other
    if image := files.kind(data, _NOT_READ):
        return f"{image} of a kind that is not read here"
    return "text" if start.isascii() and start.decode().isprintable() else "no known format"
