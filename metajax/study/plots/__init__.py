"""A figure of every diagnostic: `plot(result)`, and `save(figure, path)`."""

# Each module registers the figures of its results.
from metajax.study.plots import cost as _cost  # noqa: F401
from metajax.study.plots import curvature as _curvature  # noqa: F401
from metajax.study.plots import gradients as _gradients  # noqa: F401
from metajax.study.plots import inner as _inner  # noqa: F401
from metajax.study.plots import network as _network  # noqa: F401
from metajax.study.plots import settings as _settings  # noqa: F401
from metajax.study.plots import tasks as _tasks  # noqa: F401
from metajax.study.plots.style import plot as plot
from metajax.study.plots.style import save as save
