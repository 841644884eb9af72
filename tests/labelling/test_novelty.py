"""How strange pictures are: against loops, and on pictures of other classes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.errors import InputError
from metajax.labelling.answers import NONE, Answers, Label, without_class
from metajax.labelling.novelty import LEAST, known, thumbnails
from metajax.labelling.trust.comparison import describe_guess
from metajax.labelling.trust.strangers import (
    describe,
    fit_novelty,
    learn_novelty,
    left_out,
)
from metajax.metrics.ranking import roc_area
from metajax.types import Batch

LABELS = np.array([0, 0, 1, 1, 2])


def points(labels, seed=0, spread=0.3):
    """Clusters of features, a cluster a class."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(20, 8))
    noise = spread * draw.normal(size=(len(labels), 8))
    return jnp.asarray(centres[labels] + noise, jnp.float32)


def test_distances_are_those_of_a_loop():
    x = np.asarray(points(LABELS), float)
    result = left_out(jnp.asarray(x, jnp.float32), LABELS)
    for i, label in enumerate(LABELS):
        squares = ((x - x[i]) ** 2).sum(1)
        others = np.delete(squares, i)
        strange = squares[label != LABELS].min()
        np.testing.assert_allclose(result.strange[i], np.log(strange + LEAST) / 2, 1e-4)
        if label == 2:  # the only one of its class
            assert np.isnan(result.known[i])
        else:
            expected = np.log(others.min() + LEAST) / 2
            np.testing.assert_allclose(result.known[i], expected, 1e-4)
    area, low, high = result.area()
    paired = roc_area(result.strange, result.known[:4])
    np.testing.assert_allclose(area, paired, rtol=1e-6)
    assert 0 <= low <= area <= high <= 1


def test_strangers_are_stranger_than_known_pictures():
    labels = np.arange(24) % 6
    novelty, (line,) = learn_novelty(Batch(points(labels), jnp.asarray(labels)))
    assert "AUROC" in line and "each of 6 classes" in line
    assert " % of strangers, and " in line and not novelty.is_guess()
    ours = np.asarray(novelty(points(labels, seed=1)))
    theirs = np.asarray(novelty(points(labels + 6, seed=2)))
    assert np.median(ours) < 0.5 < np.median(theirs)
    assert roc_area(theirs, ours) > 0.9
    assert np.all((ours >= 0) & (theirs <= 1))


def test_little_is_said_of_few_pictures():
    labels = np.arange(3)
    novelty, (line,) = learn_novelty(Batch(points(labels), jnp.asarray(labels)))
    assert "one picture a class says nothing" in line
    assert np.isfinite(novelty(points(labels + 6))).all()
    two = left_out(points(LABELS[:4]), LABELS[:4])
    assert "rests on two classes" in describe(two, novelty)


def test_novelty_that_is_a_guess_is_warned_of():
    """Where classes lie no nearer to themselves than to others."""
    labels = np.arange(24) % 6
    novelty, (line,) = learn_novelty(Batch(points(0 * labels), jnp.asarray(labels)))
    low = int(line.partition("interval ")[2].partition(" ")[0])
    assert low == round(100 * float(novelty.least_area)) <= 50 and novelty.is_guess()
    labeller: Any = SimpleNamespace(novelty=novelty)
    (line,) = describe_guess(labeller)
    assert "no better than a guess" in line and "leave --none out" in line
    labeller.novelty = novelty._replace(least_area=np.float32(0.51))
    assert describe_guess(labeller) == ()


def test_pictures_are_compared_coarsely_and_features_by_direction():
    pictures = jax.random.uniform(jax.random.key(0), (3, 28, 28, 1))
    small = thumbnails(pictures)
    assert small.shape == (3, 49)
    white, black = (thumbnails(jnp.full((1, 28, 28, 3), x)) for x in (1.0, 0.0))
    np.testing.assert_allclose(((white - black) ** 2).sum(), 1, rtol=1e-5)
    features = jnp.array([[3.0, 4.0], [0.3, 0.4]])
    np.testing.assert_allclose(thumbnails(features), [[0.6, 0.8]] * 2, rtol=1e-6)


def test_farther_is_never_less_strange():
    """Even of classes that lie farther from themselves than from others."""
    result = left_out(points(LABELS), LABELS)
    swapped = result._replace(known=result.strange + 1, strange=result.strange - 1)
    assert fit_novelty(points(LABELS), swapped).slope > 0
    shares = np.asarray(known(jnp.linspace(0, 1, 11)))
    assert shares[0] == 1 and shares[-1] == 0 and np.all(np.diff(shares) < 0)


def test_the_runner_up_of_none_is_less_probable():
    """Classes and none sum to 1, also where the confidence is 0."""
    for novelty in (0.51, 0.8, 0.999, 1.0):
        shares = [float(known(jnp.float32(novelty))) * p for p in (0.9, 0.1)]
        label = Label("1.png", "a", shares[0], "b", shares[1], novelty)
        none = without_class(label)
        assert none.confidence == none.novelty == novelty
        expected = 0.9 * (1 - novelty)
        np.testing.assert_allclose(none.runner_up_confidence, expected, atol=1e-6)


def test_none_is_a_label_of_its_own():
    strange, own = (Label("1.png", "a", 0.4, "b", 0.2, s) for s in (0.51, 0.5))
    assert without_class(strange)[:4] == ("1.png", NONE, 0.51, "a")
    assert without_class(own) == own
    labeller: Any = SimpleNamespace(classes=("a", NONE), contents={})
    with pytest.raises(InputError, match="a class has that name"):
        Answers(labeller, Path(), none=True)
