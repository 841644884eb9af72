"""Pages of characters: where their ink is, and what is seen of it."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.data.sets import _pasting, pages
from metajax.data.sets.pages import INK, Page, Pasted, check_page, paint
from tests.helpers import KEY

SQUARE = np.zeros((9, 9), np.float32)
SQUARE[1:7, 3:7] = 1.0  # 6 rows, 4 columns
PLAIN = Page(size=24, side=9, rotation=0.0, shear=0.0, scale=1.0)
FREE = PLAIN._replace(rotation=20.0, shear=10.0, scale=2.0)


def corner_drawing():
    """An L, which no turn or mirror keeps."""
    drawing = np.zeros((9, 9), np.float32)
    drawing[1:8, 2], drawing[7, 2:6] = 1.0, 1.0
    return drawing


@partial(jax.jit, static_argnums=(2, 3))
def painted(key, pasted, page, centred=False):
    return paint(key, pasted, page, centred=centred)


def of(drawings, labels):
    return Pasted(jnp.asarray(np.stack(drawings)), jnp.array(labels, jnp.int32))


def bounds(mask):
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_a_drawing_at_a_whole_place_is_itself():
    drawing = np.where(corner_drawing() > 0, 0.8, 0.1).astype(np.float32)
    turn = _pasting.matrix(jnp.array([0.3, -0.7, 0.1, 0.9]), 0.0, 0.0, 1.0)
    np.testing.assert_array_equal(turn, np.eye(2))
    centre = jnp.array([7 + 4.5, 3 + 4.5])
    page = _pasting.render(jnp.asarray(drawing), turn, centre, 9, 24)
    expected = np.zeros((24, 24), np.float32)
    expected[3:12, 7:16] = drawing
    np.testing.assert_allclose(page, expected, atol=1e-6)


def test_a_drawing_turned_and_scaled_goes_where_the_matrix_says():
    """Against the formula of the docstring, at each pixel of ink."""
    rotation, shear = math.radians(20), math.radians(10)
    u = np.array([0.8, -0.5, 0.6, -0.3])
    turn = np.asarray(_pasting.matrix(jnp.asarray(u, jnp.float32), rotation, shear, 2))
    phi, theta, a, b = rotation * u[0], shear * u[1], 2 ** u[2], 2 ** u[3]
    expected = [
        [a * np.cos(phi + theta), b * np.sin(phi - theta)],
        [-a * np.sin(phi + theta), b * np.cos(phi - theta)],
    ]
    np.testing.assert_allclose(turn, expected, rtol=1e-5)
    for row, column in ((1, 2), (7, 5), (4, 4)):
        drawing = np.zeros((9, 9), np.float32)
        drawing[row, column] = 1.0
        place = turn @ [(column + 0.5 - 4.5) * 3, (row + 0.5 - 4.5) * 3] + 40.0
        ink = _pasting.render(jnp.asarray(drawing), turn, jnp.full(2, 40.0), 27, 80)
        y, x = np.indices((80, 80)) + 0.5
        seen = np.asarray(ink) / np.sum(ink)
        middle = [np.sum(seen * x), np.sum(seen * y)]
        np.testing.assert_allclose(middle, place, atol=0.05)


def test_a_plain_page_shows_the_drawing_and_its_box():
    for seed in range(5):
        image, mask, corners = painted(
            jax.random.key(seed), of([SQUARE], [3]), PLAIN, centred=True
        )
        expected = np.zeros((24, 24), bool)
        left, top, right, bottom = (int(x) for x in corners[0])
        expected[top:bottom, left:right] = True
        assert (left, top, right, bottom) == (10, 9, 14, 15)
        np.testing.assert_array_equal(np.asarray(mask) == 3, expected)
        assert set(np.unique(mask)) == {0, 3}
        assert image.shape == (24, 24, 3) and image.dtype == jnp.float32


def test_masks_agree_with_boxes():
    """The box of a character on top is that of its label's pixels."""
    for seed in range(20):
        pasted = of([corner_drawing(), SQUARE, corner_drawing()], [2, 0, 1])
        image, mask, corners = painted(jax.random.key(seed), pasted, FREE)
        np.testing.assert_array_equal(bounds(np.asarray(mask) == 1), corners[-1])
        assert 0 <= np.min(image) and np.max(image) <= 1
        assert np.min(corners) >= 0 and np.max(corners) <= FREE.size
        seen = np.asarray(mask) == 2
        if seen.any():  # hidden in part, so that its box is no smaller
            inner, box = bounds(seen), np.asarray(corners[0])
            assert np.all(inner[:2] >= box[:2]) and np.all(inner[2:] <= box[2:])


@pytest.mark.parametrize("centred", [False, True])
def test_all_ink_is_on_the_page(monkeypatch, centred):
    """As much as on a wider page."""
    renders, wide = [], 12

    def render(drawing, turn, shift, side, size):
        ink = _pasting.render(drawing, turn, shift, side, size)
        more = _pasting.render(drawing, turn, shift + wide, side, size + 2 * wide)
        renders.append(None)
        lost = jnp.sum(more > INK) - jnp.sum(ink > INK)
        return jnp.where(lost == 0, ink, jnp.full_like(ink, jnp.nan))

    monkeypatch.setattr(pages, "render", render)
    draw = jax.jit(partial(paint, page=FREE, centred=centred))
    for seed in range(10):
        pasted = of([np.ones((9, 9), np.float32), corner_drawing()], [1, 2])
        assert np.isfinite(draw(jax.random.key(seed), pasted).image).all()
    assert renders


def test_what_is_too_large_is_cut_on_all_sides():
    page = PLAIN._replace(size=9, side=9, rotation=45.0)
    lost = []
    for seed in range(8):
        full = of([np.ones((9, 9), np.float32)], [1])
        mask = painted(jax.random.key(seed), full, page, centred=True).mask
        np.testing.assert_array_equal(mask, np.asarray(mask)[::-1, ::-1])
        lost.append(81 - int(np.sum(mask)))
    assert max(lost) > 0


def test_the_last_is_on_top():
    """Of full squares in the middle, the last hides the others."""
    full = np.ones((9, 9), np.float32)
    image, mask, corners = painted(KEY, of([full] * 3, [1, 2, 3]), PLAIN, centred=True)
    assert set(np.unique(mask)) == {0, 3}
    np.testing.assert_array_equal(corners, np.broadcast_to(corners[0], (3, 4)))
    shown = np.asarray(image)[np.asarray(mask) == 3]
    assert len(np.unique(np.round(shown, 3), axis=0)) <= 2  # its colour, faint edges


def test_labels_of_background_hide_what_is_below():
    full = np.ones((9, 9), np.float32)
    _, mask, _ = painted(KEY, of([full, full], [1, 0]), PLAIN, centred=True)
    assert not np.any(mask)


def test_faint_ink_does_not_count():
    faint = np.full((9, 9), 0.9 * INK, np.float32)
    image, mask, corners = painted(KEY, of([faint], [1]), PLAIN, centred=True)
    assert not np.any(mask) and not np.any(corners) and np.any(image)
    blank = painted(KEY, of([0 * faint], [1]), PLAIN, centred=True)
    assert not any(np.any(x) for x in blank)


def test_places_keep_characters_apart():
    def overlap(places):
        page = FREE._replace(size=48, places=places)
        full = of([np.ones((9, 9), np.float32)] * 6, range(1, 7))
        boxes = np.stack(
            [painted(jax.random.key(s), full, page).corners for s in range(10)]
        )
        low = np.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
        high = np.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
        shared = np.prod(np.maximum(high - low, 0), -1)
        return np.sum(shared * ~np.eye(6, dtype=bool))

    assert overlap(16) < 0.3 * overlap(1)


def test_one_channel_is_white_on_black():
    page = PLAIN._replace(channels=1)
    image = painted(KEY, of([SQUARE], [1]), page, centred=True).image
    assert image.shape == (24, 24, 1) and np.max(image) == 1.0


def test_random_colours():
    image = painted(KEY, of([SQUARE], [1]), PLAIN, centred=True).image
    assert len(set(np.max(image, (0, 1)).tolist())) == 3


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"size": 0}, "the size of a page must be a whole number of at least 1, got 0"),
        ({"side": 1.5}, "the side of a page must be a whole number"),
        ({"places": 0}, "the places of a page must be a whole number"),
        ({"side": 97}, "the side of a drawing must be at most .* 96, got 97"),
        ({"rotation": -1.0}, "the rotation of a page must be at least 0.0, got -1.0"),
        ({"shear": math.nan}, "the shear of a page must be at least 0.0, got nan"),
        ({"scale": 0.5}, "the scale of a page must be at least 1.0, got 0.5"),
        ({"scale": math.inf}, "the scale of a page must be at least 1.0, got inf"),
        ({"channels": 2}, "the channels of a page must be 1 or 3, got 2"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(mj.InputError, match=message) as caught:
        check_page(Page()._replace(**changes))
    assert "\n" not in str(caught.value)
