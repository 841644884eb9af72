"""Images with 16-bit samples: how many of the bits they use, and their values.

Cameras and scanners write samples of 10, 12 or 14 bits into 16-bit files. If a file
does not declare its depth, it is that of the brightest pixel in the folder: the images
of a folder come from one source, and a single image may be dark.
"""

import struct
import sys
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

BITS = (8, 10, 12, 14, 16)
FULL = {2**bits - 1: bits for bits in BITS}
# Pillow can unpack either byte of these.
COLOURS = {"RGB": "RGB", "RGBA": "RGBA", "RGBX": "RGBX", "CMYK": "CMYK", "RGBa": "RGBA"}
OTHER_BYTE = {"L": "B", "B": "L", "N": {"little": "B", "big": "L"}[sys.byteorder]}
OTHERS = "BGR", "I"  # 16 bits per pixel, and signed samples
SAMPLE_BITS, PHOTOMETRIC, LARGEST, PLANAR = 258, 262, 281, 284  # tags of TIFF
APART = 2  # PLANAR's value for planes stored one after the other


class Range(NamedTuple):
    """How much of 16 bits an image uses.

    Attributes:
      declared: the bits that its file says it uses; None if it does not say.
      largest: the largest sample of its colours; transparency does not count.
    """

    declared: int | None
    largest: int

    def bits(self, common: int | None = None) -> int:
        """How many bits its samples use.

        Args:
          common: the bits that the images of its folder use.

        Returns:
          The declared bits, or else the fewest for its samples, at least `common`.
        """
        if self.declared is not None:
            return self.declared
        return max(common or 0, fewest_bits(self.largest))


class Wide(NamedTuple):
    """An image with 16-bit samples, turned upright.

    Attributes:
      colours: `uint16[height, width, channels]`, of 1, 3 or 4 channels.
      alpha: transparency, `uint16[height, width, channels]`, of 1 channel or none.
      declared: how many bits its file says it uses; None if it does not say.
      clear: the colour that is transparent; None if none is.
      inverted: whether 0 is white.
    """

    colours: np.ndarray
    alpha: np.ndarray
    declared: int | None
    clear: Any
    inverted: bool

    @property
    def range(self) -> Range:
        """How much of 16 bits it uses."""
        return Range(self.declared, int(self.colours.max()))

    def narrow(self, bits: int) -> Image.Image:
        """The image with 8-bit samples, if it uses `bits` of its 16."""
        full, alpha = 2**bits - 1, self.alpha
        colours = np.minimum(self.colours, full)
        parts = [_shift(full - colours if self.inverted else colours, bits)]
        if self.clear is not None:
            opaque = np.any(self.colours != np.uint16(self.clear), -1, keepdims=True)
            parts.append(np.where(opaque, 255, 0).astype(np.uint8))
        elif alpha.size:
            parts.append(_shift(alpha, max(bits, fewest_bits(int(alpha.max())))))
        array = np.concatenate(parts, axis=-1)
        modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA" if len(parts) > 1 else "CMYK"}
        return Image.frombytes(modes[array.shape[-1]], array.shape[1::-1], array)


def fewest_bits(largest: int) -> int:
    """The smallest of the usual depths that holds a number."""
    return next(bits for bits in BITS if largest < 2**bits)


def read_wide(file: IO[bytes], image: Image.Image) -> Wide | None:
    """Reads the samples of an image that was opened but not loaded yet.

    Args:
      file: the file that it was opened from.
      image: the image.

    Returns:
      A `Wide`, or None for an image of another depth.

    Raises:
      ValueError: if Pillow cannot read all bytes of this kind of image.
    """
    tags: dict[int, Any] = getattr(image, "tag_v2", {})
    if max(tags.get(SAMPLE_BITS, (0,))) == 16 and tags.get(PLANAR) == APART:
        raise ValueError("its planes of 16 bits lie apart; save it with them together")
    if image.mode.startswith("I;16"):
        upright = ImageOps.exif_transpose(image)
        values = np.asarray(upright).astype(np.uint16)[..., None]
        alpha = values[..., :0]
    else:
        kind, _, order = raw_mode(image).partition(";16")
        if not order or kind in OTHERS:
            return None
        values, alpha = _two_bytes(file, image, kind, order)
    is_png = image.format == "PNG"
    declared = _png_bits(file, values) if is_png else _tiff_bits(tags, values)
    clear = None if alpha.size else image.info.get("transparency")
    return Wide(values, alpha, declared, clear, tags.get(PHOTOMETRIC) == 0)


def _two_bytes(
    file: IO[bytes], image: Image.Image, kind: str, order: str
) -> tuple[np.ndarray, np.ndarray]:
    """The colours and the transparency of an image; Pillow reads one byte at a time."""
    if kind == "LA":  # four bytes, two for each sample
        parts = _unpacked(file, image, "RGBA")
        return _joined(parts[..., :1], parts[..., 1:2]), _joined(
            parts[..., 2:3], parts[..., 3:]
        )
    if kind not in COLOURS:
        raise ValueError(f"its pixels are of the kind {kind};16, which cannot be read")
    raw = f"{COLOURS[kind]};16"
    high = _unpacked(file, image, raw + order)
    values = _joined(high, _unpacked(file, image, raw + OTHER_BYTE[order]))
    if image.mode != "RGBA":
        return values, values[..., :0]
    colours, alpha = values[..., :3], values[..., 3:]
    if kind == "RGBa":  # colours are multiplied by alpha
        full = np.uint32(2 ** fewest_bits(int(alpha.max())) - 1)
        whole = colours.astype(np.uint32) * full // np.maximum(alpha, 1)
        colours = np.minimum(whole, full).astype(np.uint16)
    return colours, alpha


def _unpacked(file: IO[bytes], image: Image.Image, raw: str) -> np.ndarray:
    """The bytes of an image, upright, read in one of Pillow's raw modes."""
    file.seek(0)
    with Image.open(file, formats=[image.format or ""]) as again:
        again.tile = [t._replace(args=_renamed(t.args, raw)) for t in again.tile]
        return np.asarray(ImageOps.exif_transpose(again))


def raw_mode(image: Image.Image) -> str:
    """Pillow's name for the layout of the samples in the file; "" if it has none."""
    tiles = getattr(image, "tile", [])
    args = tiles[0].args if tiles else ""
    raw = args[0] if isinstance(args, tuple) and args else args
    return raw if isinstance(raw, str) else ""


def _renamed(args: Any, raw: str) -> Any:
    """The arguments of a Pillow decoder, with another raw mode."""
    return (raw, *args[1:]) if isinstance(args, tuple) else raw


def _joined(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return (high.astype(np.uint16) << 8) | low


def _shift(values: np.ndarray, bits: int) -> np.ndarray:
    return np.minimum(values >> (bits - 8), 255).astype(np.uint8)


def _tiff_bits(tags: dict[int, Any], values: np.ndarray) -> int | None:
    """The bits that a TIFF's tags declare; LARGEST may be just a statistic."""
    if 8 <= (bits := max(tags.get(SAMPLE_BITS, (16,)))) < 16:
        return bits
    largest = tags.get(LARGEST) or 0
    largest = max(largest) if isinstance(largest, tuple) else largest
    return FULL.get(largest) if values.max() <= largest else None


def _png_bits(file: IO[bytes], values: np.ndarray) -> int | None:
    """The bits that a PNG's chunk sBIT declares.

    Samples of fewer bits must be scaled to 16, but some programs do not scale them.
    """
    bits = _significant_bits(file)
    if bits is None:
        return None
    low = (1 << (16 - bits)) - 1
    unscaled = int(values.max()) < 2**bits and np.any(values & np.uint16(low))
    return bits if unscaled else 16


def _significant_bits(file: IO[bytes]) -> int | None:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"sBIT":
            bits = max(file.read(min(length, 4)), default=0)
            return bits if 8 <= bits <= 16 else None
        if kind == b"IDAT":
            return None
        file.seek(length + 4, 1)
    return None
