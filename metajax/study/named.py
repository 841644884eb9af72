"""An array that knows what its axes are."""

import warnings
from typing import NamedTuple

import numpy as np

from metajax.errors import InputError


class Named(NamedTuple):
    """An array with a name for each axis.

    Attributes:
      values: the array.
      axes: the names, as many as it has axes.

    >>> losses = Named(np.array([[3.0, 1.0], [5.0, 2.0]]), ("task", "step"))
    >>> losses.mean("task").values.tolist()
    [4.0, 1.5]
    """

    values: np.ndarray
    axes: tuple[str, ...]

    def axis(self, name: str) -> int:
        """Where the axis of a name is.

        Raises:
          InputError: if there is none.
        """
        if name not in self.axes:
            raise InputError(
                f"there is no axis {name!r}; there are {', '.join(self.axes)}"
            )
        return self.axes.index(name)

    def mean(self, name: str) -> "Named":
        """The mean over an axis."""
        return self._reduced(name, lambda x, axis: np.mean(x, axis))

    def quantile(self, share: float, name: str) -> "Named":
        """A quantile over an axis, of what is a number there: 0.5 is the median."""

        def function(x: np.ndarray, axis: int) -> np.ndarray:
            with warnings.catch_warnings():  # nothing but NaN has the quantile NaN
                warnings.simplefilter("ignore", RuntimeWarning)
                finite = np.where(np.isfinite(x), x, np.nan)
                return np.nanquantile(finite, share, axis)

        return self._reduced(name, function)

    def take(self, name: str, index: int) -> "Named":
        """One place of an axis."""
        return self._reduced(name, lambda x, axis: np.take(x, index, axis))

    def _reduced(self, name: str, function) -> "Named":
        place = self.axis(name)
        kept = self.axes[:place] + self.axes[place + 1 :]
        return Named(function(self.values, place), kept)
