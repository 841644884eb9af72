"""Every result has a figure, and drawing is pure."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

import metajax as mj
from metajax import study
from metajax.study.plots import plot, save
from tests.helpers import KEY


def build(grad=mj.exact, steps=2, rate=0.01):
    model = mj.mlp(1, (4, 4), 1)
    return mj.maml(model, mj.mse, optax.sgd(rate), steps, grad=grad)


def mapped():
    points = np.array([[0.0, 1.0], [0.1, 1.0], [2.0, 0.0], [2.0, 0.1]])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return study.TaskMap(
        ("Greek", "Greek", "Latin", "Latin"),
        study.Named(distances, ("task", "other")),
        study.Named(points, ("task", "axis")),
        np.array([0.7, 0.2]),
        1.0,
        np.nan,
    )


@pytest.fixture(scope="module")
def results():
    learner, episodes = build(grad=mj.reverse), mj.data.sinusoid(4, 8)(KEY, 3)
    meta = learner.init(KEY)
    one = jax.tree.map(lambda x: x[0], episodes)
    corner = study.joint_optimum(learner, meta, episodes, mj.mse, optax.sgd(0.01), 3)
    spectrum = study.spectrum(learner, meta, episodes, mj.mse, products=4)
    return [
        study.trajectories(learner, meta, episodes, mj.mse, mj.mse),
        study.orders(build, meta, episodes, steps=(1, 2), rates=(0.01, 0.1)),
        study.expansion(build, meta, episodes),
        study.noise(build, meta, episodes),
        spectrum,
        study.density(spectrum),
        study.adaptation_spectrum(learner, meta, episodes, products=3),
        study.reuse(learner, meta, episodes),
        study.contributions(learner, meta, episodes, mj.mse),
        study.freezing(build, meta, episodes, mj.mse),
        study.landscape(learner, meta, one, mj.mse, corner, resolution=3),
        study.heat_map(
            lambda rate: build(rate=rate), meta, episodes, mj.mse, rates=(0.01, 0.1)
        ),
        mapped(),
        study.plan(lambda k: build(steps=k), optax.adam(1e-3), episodes, steps=2),
    ]


def test_every_diagnostic_is_here(results):
    """A new result without a figure, or without a place in this list, is seen."""
    public = {
        getattr(study, name)
        for name in dir(study)
        if isinstance(getattr(study, name), type)
        and hasattr(getattr(study, name), "_fields")
    }
    parts = {study.Named, study.Tridiagonal, study.Quadrature, study.ChipPlan}
    assert {type(found) for found in results} == public - parts


def test_every_result_is_drawn_and_written(results, tmp_path):
    for found in results:
        figure = plot(found)
        assert isinstance(figure, Figure) and figure.axes
        assert all(ax.has_data() for ax in figure.axes), type(found).__name__
        again = plot(found)
        for form in ("svg", "png"):
            path = tmp_path / f"{type(found).__name__}.{form}"
            save(figure, path)
            first = path.read_bytes()
            save(again, path)
            assert path.read_bytes() == first
    assert not plt.get_fignums()  # nothing global was touched


def test_no_figure_of_something_else():
    with pytest.raises(TypeError, match="no figure of a int"):
        plot(3)


def test_named_axes():
    values = study.Named(np.arange(6.0).reshape(2, 3), ("task", "step"))
    assert values.take("step", 1).values.tolist() == [1.0, 4.0]
    assert values.quantile(0.5, "task").values.tolist() == [1.5, 2.5, 3.5]
    with pytest.raises(mj.InputError, match="no axis 'layer'; there are task, step"):
        values.mean("layer")
