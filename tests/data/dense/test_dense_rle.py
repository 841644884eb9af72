"""Outlines of COCO, held to its own tools and to a plain loop."""

import numpy as np
import pytest

from metajax.data.dense._outlines import fill, fill_polygon, paint
from metajax.data.dense._rle import decode_runs


def blobs(seed, size):
    """A mask of ellipses, of any share of pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for _ in range(rng.integers(0, 5)):
        (cy, cx), (ry, rx) = rng.uniform(0, size), rng.uniform(0.5, 1 + size[1] / 3, 2)
        mask ^= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
    return mask


def runs(mask):
    """The plain counts, by a loop."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


SIZES = [(1, 1), (7, 5), (64, 48), (300, 280)]


@pytest.mark.parametrize("size", SIZES)
def test_runs(size):
    for seed in range(5):
        mask = blobs(seed, size)
        assert np.array_equal(decode_runs(runs(mask)), mask)


@pytest.mark.parametrize("size", SIZES)
def test_compressed_runs_are_those_of_pycocotools(size):
    coco = pytest.importorskip("pycocotools.mask")
    masks = [blobs(seed, size) for seed in range(20)]
    masks += [np.zeros(size, bool), np.ones(size, bool)]
    masks += [np.random.default_rng(0).random(size) < 0.5]
    for mask in masks:
        encoded = coco.encode(np.asfortranarray(mask, np.uint8))
        text = encoded["counts"].decode()
        outline = {"size": list(size), "counts": text}
        assert np.array_equal(decode_runs(outline), mask)


@pytest.mark.parametrize(
    "counts, words",
    [
        ([3, 2], "of 5 pixels, not 6"),
        ([7, -1], "negative"),
        ([2.5, 3.5], "whole numbers"),
        ([10**30], "whole numbers"),
        ([], "whole numbers"),
        ("", "compressed text"),
        ("Q", "compressed text"),
        ("~~", "compressed text"),
        ("o" * 12 + "0", "compressed text"),
        ("13", "of 4 pixels"),
        ("1ü", "encode"),
    ],
)
def test_damaged_runs(counts, words):
    with pytest.raises(ValueError, match=words):
        decode_runs({"size": [2, 3], "counts": counts})


def test_runs_of_another_size():
    with pytest.raises(ValueError, match="2x3 pixels, and the image has 3x2"):
        fill({"size": [3, 2], "counts": [6]}, (2, 3))


def test_polygons_by_a_loop():
    """A centre is inside if a ray to its left crosses an odd number of edges."""
    rng = np.random.default_rng(0)
    for n in (3, 5, 12):
        corners = rng.uniform(-2, 14, (n, 2))
        inside = np.zeros((9, 12), bool)
        for row, column in np.ndindex(inside.shape):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0)):
                if (y0 <= y) != (y1 <= y):
                    inside[row, column] ^= x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
        assert inside.any()
        assert np.array_equal(fill_polygon(corners, inside.shape), inside)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    size = 40, 50

    def theirs(polygons):
        merged = coco.merge(coco.frPyObjects(polygons, *size))
        return coco.decode(merged).astype(bool)

    whole = [[5, 6, 25, 6, 25, 30, 5, 30], [20, 10, 45, 10, 45, 20, 20, 20]]
    assert np.array_equal(fill(whole, size), theirs(whole)), "exact on whole numbers"
    rng = np.random.default_rng(0)
    for _ in range(10):  # their outline is rounded to a fifth of a pixel
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(8, 18, 9)
        corners = np.stack(
            [25 + radii * np.cos(angles), 20 + radii * np.sin(angles)], -1
        )
        polygon = [corners.ravel().tolist()]
        a, b = fill(polygon, size), theirs(polygon)
        assert np.sum(a & b) / np.sum(a | b) > 0.95


def test_small_objects_lie_on_top():
    small, large, unknown = np.zeros((3, 4, 4), bool)
    small[1, 1], large[:3, :3], unknown[2:] = True, True, True
    mask = paint((4, 4), [unknown], [(2, small), (1, large)], 255)
    assert mask.tolist() == [
        [1, 1, 1, 0],
        [1, 2, 1, 0],
        [1, 1, 1, 255],
        [255, 255, 255, 255],
    ]
