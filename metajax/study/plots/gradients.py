"""Figures of the meta-gradient."""

import numpy as np
from matplotlib.figure import Figure

from metajax.study.named import Named
from metajax.study.noise import Noise
from metajax.study.orders import Expansion, Orders
from metajax.study.plots.style import (
    BLACK,
    BLUE,
    CYCLE,
    RED,
    band,
    bands,
    finish,
    legend,
    lines,
    panels,
    plot,
    ticks,
)


@plot.register
def _(result: Orders) -> Figure:
    figure, axes = panels(3)
    steps, middle = np.asarray(result.steps), len(result.rates) // 2
    rate = result.rates[middle]
    with np.errstate(invalid="ignore"):  # a rate at which the inner loop diverges
        size = np.maximum(result.exact.values, np.finfo(np.float32).tiny)
        share = Named(result.second_order.values / size, result.exact.axes)
    for ax, values, y in (
        (axes[0], result.cosine, "cosine, exact to first-order"),
        (axes[1], share, "‖Hessian part‖ / ‖exact‖"),
    ):
        at_rate = values.take("rate", middle)
        by_task = Named(at_rate.values.swapaxes(0, 1), ("task", "steps", "layer"))
        bands(ax, steps, by_task, result.layers)
        finish(ax, "inner steps", y)
        ax.set_title(f"inner rate {rate:.3g}", fontsize=9)
        ax.set_xticks(steps)
    whole = result.cosine.take("layer", -1)
    for place, count in enumerate(result.steps):
        of_count = whole.take("steps", place)
        by_task = Named(of_count.values.T, ("task", "rate"))
        colour = CYCLE[place % len(CYCLE)]
        label = f"{count} step" + "s" * (count > 1)
        band(axes[2], result.rates, by_task, color=colour, label=label, marker=".")
    finish(axes[2], "inner rate", "cosine, all layers")
    axes[2].set_xscale("log")
    axes[2].set_xticks(result.rates, [f"{rate:.3g}" for rate in result.rates])
    axes[2].minorticks_off()
    axes[2].legend(fontsize=8)
    legend(figure, axes[0])
    return figure


@plot.register
def _(result: Expansion) -> Figure:
    figure, axes = panels(2)
    orders = np.arange(len(result.norm.values))
    lines(axes[0], orders, result.norm, result.layers)
    floor = result.floor.values
    axes[0].fill_between(orders, floor, 0.01 * floor, color="0.85", lw=0, zorder=0)
    axes[0].plot(orders, floor, color="0.5", lw=0.8, ls=":", label="rounding")
    finish(axes[0], "Hessians in the term", "norm of the term", scale="log")
    lines(axes[1], orders, result.cosine, result.layers)
    finish(axes[1], "terms up to this order", "cosine to the exact gradient")
    for ax in axes:
        ax.set_xticks(orders)
    legend(figure, axes[0])
    return figure


@plot.register
def _(result: Noise) -> Figure:
    figure, axes = panels(2, width=4.2)
    for values, label, colour, line in (
        (result.error, "exact", BLUE, "-"),
        (result.first_order_error, "first-order", RED, "--"),
    ):
        error = values.take("layer", -1).values
        shown = np.where(error > 0, error, np.nan)  # an estimate may fall below 0
        axes[0].plot(result.sizes, shown, line, color=colour, label=label, marker=".")
    signal = result.signal.take("layer", -1).values
    if signal > 0:
        axes[0].axhline(signal, color=BLACK, ls=":", label="signal, ‖E g‖²")
    finish(axes[0], "tasks in a meta-batch", "squared error of the gradient")
    if np.any(result.error.values > 0):
        axes[0].set_yscale("log")
    axes[0].set_xscale("log", base=2)
    axes[0].legend()
    useful = np.where(np.isfinite(result.useful.values), result.useful.values, np.nan)
    colours = [BLUE] * (len(result.layers) - 1) + [BLACK]
    axes[1].bar(np.arange(len(result.layers)), useful, color=colours)
    blank = ""
    if np.isinf(result.useful.values).any():
        blank = "none: no signal was seen"
    if np.isnan(result.useful.values).any():
        blank = "none: not all tasks were finite"
    finish(axes[1], blank, "useful meta-batch (tasks)")
    ticks(axes[1], result.layers)
    return figure
