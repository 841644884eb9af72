"""What is said of a result, where it is worth a word, and silence where it is not."""

import operator

import numpy as np

from metajax.study import remarks
from metajax.study.curvature import Sensitivity, Spectrum
from metajax.study.landscape import HeatMap
from metajax.study.named import Named
from metajax.study.noise import Noise
from metajax.study.trajectories import Trajectories


def spectrum(stable):
    blank = [Named(np.zeros(0), ())] * 3
    named = Named(np.asarray(stable, float), ("task", "step"))
    return Spectrum((0, 5), 9, *blank, named, *blank[:2])


def trajectories(losses):
    named = Named(np.asarray(losses, float), ("task", "step"))
    none = Named(np.ones((len(losses), 2, 1)), ("task", "step", "layer"))
    return Trajectories(("all",), *[named] * 4, *[none] * 4)


def test_the_stable_rate_is_that_of_nine_tasks_of_ten():
    rates = np.linspace(0.01, 0.1, 10)
    said = remarks.instability(spectrum(np.stack([rates, rates + 1], axis=1)), 0.035)
    assert "in 3 of 10 tasks" in said and "at a rate of 0.01," in said
    rates = np.r_[0.001, np.linspace(0.02, 0.1, 19)]
    said = remarks.instability(spectrum(np.stack([rates, rates], axis=1)), 0.03)
    assert "at a rate of 0.02," in said


def test_a_task_that_diverged_was_unstable_where_it_began():
    rates = [[0.1, np.nan], [0.2, np.inf], [np.nan, np.nan]]
    assert remarks.instability(spectrum(rates), 0.1) == ""
    said = remarks.instability(spectrum(rates), 0.15)
    assert "in 1 of 2 tasks" in said and "at a rate of 0.1," in said


def test_divergence_is_told_from_a_rise():
    assert remarks.divergence(trajectories([[2, 1], [3, 2]])) == ""
    said = remarks.divergence(trajectories([[2, 1], [1, 2], [1, np.nan], [1, np.inf]]))
    assert "In 1 of 4 tasks the support loss is higher" in said
    assert "In 2 of 4 tasks the support loss is no longer finite" in said


def test_an_explosion_is_told_from_a_task_that_was_lost():
    def found(largest):
        return Sensitivity(Named(np.asarray(largest, float)[:, None], ("task", "rank")))

    assert remarks.explosion(found([1.0, 9.9])) == ""
    said = remarks.explosion(found([1.0, 40.0, np.nan]))
    assert "In 1 of 3 tasks the meta-gradient" in said and "up to 40-fold" in said
    assert "In 1 of 3 tasks adaptation has no finite derivative" in said
    assert remarks.explosion(found([np.inf])).startswith("In 1 of 1 tasks adaptation")


def test_the_best_settings_pass_over_those_that_diverged():
    score = Named(np.array([[[3.0, 1.0], [3.0, np.nan]]]), ("task", "rate", "step"))
    found = HeatMap(np.array([0.1, 0.2]), score)
    said = remarks.best_settings(found, operator.lt)
    assert "1, is at rate 0.1 and 1 step." in said
    said = remarks.best_settings(found, operator.gt)
    assert "3, is at rate 0.1 and 0 steps." in said


def test_a_useful_batch_is_told_where_a_signal_was_seen():
    blank = Named(np.zeros(0), ())

    def told(useful):
        layers = Named(np.array([1.0, useful]), ("layer",))
        parts = [blank] * 4 + [layers] + [blank] * 2
        return remarks.useful_batch(Noise(("body", "all"), (1,), *parts), 8)

    assert "about 26.4 tasks; training has 8" in told(26.4)
    assert told(np.inf).startswith("So few tasks show no signal")
    assert told(np.nan) == ""
