"""Images of 16 bits a number: how many of the bits they use, and their bytes.

Cameras and scanners write numbers of 10, 12 or 14 bits into files of 16. Where a file
does not say so, the brightest pixel of its folder does: the images of a folder come
from one source, so they have one depth, and one image alone may be dark.
"""

import struct
import sys
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

BITS = (8, 10, 12, 14, 16)
FULL = {2**bits - 1: bits for bits in BITS}
# What Pillow unpacks either byte of.
COLOURS = {"RGB": "RGB", "RGBA": "RGBA", "RGBX": "RGBX", "CMYK": "CMYK", "RGBa": "RGBA"}
OTHER_BYTE = {"L": "B", "B": "L", "N": {"little": "B", "big": "L"}[sys.byteorder]}
OTHERS = "BGR", "I"  # of 16 bits in all, and of numbers with a sign
SAMPLE_BITS, PHOTOMETRIC, LARGEST, PLANAR = 258, 262, 281, 284  # tags of TIFF
APART = 2  # the planes of an image, one after the other


class Range(NamedTuple):
    """How much of 16 bits an image uses.

    Attributes:
      said: the bits that its file says it uses; None if it does not.
      most: its largest number, of colours and not of transparency.
    """

    said: int | None
    most: int

    def bits(self, common: int | None = None) -> int:
        """How many bits its numbers use.

        Args:
          common: of the images of its folder.

        Returns:
          What its file says; otherwise the fewest that hold it, and `common` at least.
        """
        if self.said is not None:
            return self.said
        return max(common or 0, fewest_bits(self.most))


class Wide(NamedTuple):
    """An image of 16 bits a number, upright.

    Attributes:
      colours: `uint16[height, width, channels]`, of 1, 3 or 4 channels.
      alpha: the same of transparency, of 1 channel or none.
      said: how many bits its file says it uses; None if it does not.
      clear: the colour that is transparent; None if none is.
      inverted: whether 0 is white.
    """

    colours: np.ndarray
    alpha: np.ndarray
    said: int | None
    clear: Any
    inverted: bool

    @property
    def range(self) -> Range:
        """How much of 16 bits it uses."""
        return Range(self.said, int(self.colours.max()))

    def narrow(self, bits: int) -> Image.Image:
        """The image of 8 bits a number, of so many that it uses."""
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


def fewest_bits(most: int) -> int:
    """The fewest bits, of those that there are, that hold a number."""
    return next(bits for bits in BITS if most < 2**bits)


def read_wide(file: IO[bytes], image: Image.Image) -> Wide | None:
    """The numbers of an image that was opened and is not read yet.

    Args:
      file: that it was opened from.
      image: of it.

    Returns:
      A `Wide`; None of an image of another number of bits.

    Raises:
      ValueError: if it is of a kind of which not all bytes can be read.
    """
    tags: dict[int, Any] = getattr(image, "tag_v2", {})
    if max(tags.get(SAMPLE_BITS, (0,))) == 16 and tags.get(PLANAR) == APART:
        raise ValueError("its planes of 16 bits lie apart; save it with them as one")
    if image.mode.startswith("I;16"):
        upright = ImageOps.exif_transpose(image)
        values = np.asarray(upright).astype(np.uint16)[..., None]
        alpha = values[..., :0]
    else:
        kind, _, order = _raw_mode(image).partition(";16")
        if not order or kind in OTHERS:
            return None
        values, alpha = _two_bytes(file, image, kind, order)
    said = _said_by_png(file, values) if image.format == "PNG" else _said(tags, values)
    clear = None if alpha.size else image.info.get("transparency")
    return Wide(values, alpha, said, clear, tags.get(PHOTOMETRIC) == 0)


def _two_bytes(
    file: IO[bytes], image: Image.Image, kind: str, order: str
) -> tuple[np.ndarray, np.ndarray]:
    """The colours and the transparency of an image, of which Pillow reads one byte."""
    if kind == "LA":  # as four bytes, of which two are of each number
        parts = _unpacked(file, image, "RGBA")
        return _joined(parts[..., :1], parts[..., 1:2]), _joined(
            parts[..., 2:3], parts[..., 3:]
        )
    if kind not in COLOURS:
        raise ValueError(f"its pixels are of a kind that is not read, {kind};16")
    raw = f"{COLOURS[kind]};16"
    high = _unpacked(file, image, raw + order)
    values = _joined(high, _unpacked(file, image, raw + OTHER_BYTE[order]))
    if image.mode != "RGBA":
        return values, values[..., :0]
    colours, alpha = values[..., :3], values[..., 3:]
    if kind == "RGBa":  # multiplied by it
        full = np.uint32(2 ** fewest_bits(int(alpha.max())) - 1)
        whole = colours.astype(np.uint32) * full // np.maximum(alpha, 1)
        colours = np.minimum(whole, full).astype(np.uint16)
    return colours, alpha


def _unpacked(file: IO[bytes], image: Image.Image, raw: str) -> np.ndarray:
    """The bytes of an image, upright, as those of a raw mode of Pillow's."""
    file.seek(0)
    with Image.open(file, formats=[image.format or ""]) as again:
        again.tile = [t._replace(args=_renamed(t.args, raw)) for t in again.tile]
        return np.asarray(ImageOps.exif_transpose(again))


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name of how the numbers lie in the file; "" if it has none."""
    tiles = getattr(image, "tile", [])
    args = tiles[0].args if tiles else ""
    raw = args[0] if isinstance(args, tuple) and args else args
    return raw if isinstance(raw, str) else ""


def _renamed(args: Any, raw: str) -> Any:
    """The arguments of a decoder of Pillow's, of another raw mode."""
    return (raw, *args[1:]) if isinstance(args, tuple) else raw


def _joined(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return (high.astype(np.uint16) << 8) | low


def _shift(values: np.ndarray, bits: int) -> np.ndarray:
    return np.minimum(values >> (bits - 8), 255).astype(np.uint8)


def _said(tags: dict[int, Any], values: np.ndarray) -> int | None:
    """The bits of a TIFF by its tags, of which one may be a statistic."""
    if 8 <= (bits := max(tags.get(SAMPLE_BITS, (16,)))) < 16:
        return bits
    largest = tags.get(LARGEST) or 0
    largest = max(largest) if isinstance(largest, tuple) else largest
    return FULL.get(largest) if values.max() <= largest else None


def _said_by_png(file: IO[bytes], values: np.ndarray) -> int | None:
    """The bits of a PNG by its chunk sBIT.

    Numbers of fewer bits are to be written as if of 16, and are not by all programs.
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
