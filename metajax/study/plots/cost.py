"""The figure of a plan."""

from matplotlib.figure import Figure

from metajax.study.cost import Plan
from metajax.study.plots.style import BLUE, GREEN, ORANGE, RED, finish, panels, plot


@plot.register
def _(result: Plan) -> Figure:
    figure, axes = panels(2, width=4)
    names = ("state,\nepisodes", "a meta-step", "this device")
    sizes = (result.state_bytes, result.temporary_bytes, result.available_bytes)
    axes[0].bar(names, [size / 2**20 for size in sizes], color=(BLUE, ORANGE, GREEN))
    finish(axes[0], "", "memory (MiB)", scale="log")
    inner = 1e3 * result.steps * result.seconds_per_step
    outer = 1e3 * result.seconds - inner
    axes[1].bar(["a meta-step"], [outer], color=BLUE, label="outer")
    axes[1].bar(
        ["a meta-step"],
        [inner],
        bottom=[outer],
        color=RED,
        label=f"{result.steps} inner steps",
    )
    finish(axes[1], "", "time (ms)")
    axes[1].legend()
    return figure
