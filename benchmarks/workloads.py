"""Fixed work, the same numbers for every rival: NumPy only, no framework.

| family | net | episode | inner rate |
|---|---|---|---|
| w1 | Conv4-64, max pooling, 28x28x1 | 5-way 1-shot, 15 queries a class | 0.1 |
| w2 | Conv4-32, max pooling, 84x84x3 | 5-way 1-shot, 15 queries a class | 0.01 |
| w3 | MLP 1-40-40-1 | 10 support and 10 query points of a sine wave | 0.01 |

A workload is called `w1-5steps-4tasks`, or `w1-5steps-4tasks-16filters` for another
width. A meta-step is the exact second-order gradient
of the mean query loss over the tasks, and an Adam update of the weights by it.

Weights have names: `conv0_w` (height, width, in, out), `conv0_scale`, `conv0_offset`,
..., `head_w` (height width channel, ways), `head_b`; for the MLP `layer0_w`, ...
Images are (task, example, height, width, channel).
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from benchmarks.errors import UsageError

WAYS, SHOTS, QUERIES, POINTS = 5, 1, 15, 10
OUTER_RATE = 1e-3
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Family:
    """A net, its data and its inner rate; `image` is None for the sine waves."""

    inner_rate: float
    image: tuple[int, int, int] | None = None
    filters: int = 0


FAMILIES = {
    "w1": Family(0.1, (28, 28, 1), 64),
    "w2": Family(0.01, (84, 84, 3), 32),
    "w3": Family(0.01),
}


@dataclass(frozen=True)
class Workload:
    """One line of the benchmark's table."""

    name: str
    family: Family
    steps: int
    tasks: int

    @property
    def kind(self) -> Literal["conv4", "mlp"]:
        """The net."""
        return "mlp" if self.family.image is None else "conv4"


def workload(name: str) -> Workload:
    """The workload of a name such as `w1-5steps-4tasks`.

    Raises:
      UsageError: if there is none of that name.
    """
    match = re.fullmatch(r"(w[123])-(\d+)steps-(\d+)tasks(?:-(\d+)filters)?", name)
    if match is None or "0" in match.groups() or (match[4] and match[1] == "w3"):
        raise UsageError(
            f"no workload {name!r}; expected one like w1-5steps-4tasks, of "
            f"{', '.join(FAMILIES)}; -16filters at its end sets the width of w1 and w2"
        )
    family = FAMILIES[match[1]]
    if match[4]:
        family = replace(family, filters=int(match[4]))
    return Workload(name, family, int(match[2]), int(match[3]))


def weights(work: Workload, seed: int = 0) -> Arrays:
    """Glorot's uniform weights, float64; scales 1, offsets and biases 0."""
    generator = np.random.default_rng(seed)

    def glorot(*shape: int) -> np.ndarray:
        field = int(np.prod(shape[:-2]))
        limit = np.sqrt(6.0 / (field * (shape[-2] + shape[-1])))
        return generator.uniform(-limit, limit, shape)

    if work.family.image is None:
        sizes = (1, 40, 40, 1)
        arrays = {}
        for i, (n, m) in enumerate(zip(sizes, sizes[1:])):
            arrays |= {f"layer{i}_w": glorot(n, m), f"layer{i}_b": np.zeros(m)}
        return arrays
    height, width, channels = work.family.image
    filters, arrays = work.family.filters, {}
    for i in range(4):
        arrays[f"conv{i}_w"] = glorot(3, 3, channels if i == 0 else filters, filters)
        arrays[f"conv{i}_scale"] = np.ones(filters)
        arrays[f"conv{i}_offset"] = np.zeros(filters)
    features = (height // 16) * (width // 16) * filters
    return arrays | {"head_w": glorot(features, WAYS), "head_b": np.zeros(WAYS)}


def episodes(work: Workload, seed: int = 1) -> Arrays:
    """`support_x`, `support_y`, `query_x`, `query_y`, with a leading task axis."""
    generator = np.random.default_rng(seed)
    if work.family.image is None:
        x = generator.uniform(-5.0, 5.0, (work.tasks, 2 * POINTS, 1))
        amplitude = generator.uniform(0.1, 5.0, (work.tasks, 1, 1))
        phase = generator.uniform(0.0, np.pi, (work.tasks, 1, 1))
        y = amplitude * np.sin(x - phase)
        sides = {"support": slice(0, POINTS), "query": slice(POINTS, None)}
        return {
            f"{side}_{name}": array[:, cut]
            for side, cut in sides.items()
            for name, array in (("x", x), ("y", y))
        }
    shape = (work.tasks, WAYS, 1, *work.family.image)
    classes = generator.uniform(0.0, 1.0, shape)
    arrays = {}
    for side, n in (("support", SHOTS), ("query", QUERIES)):
        noise = generator.normal(0.0, 0.3, (*shape[:2], n, *shape[3:]))
        arrays[f"{side}_x"] = (classes + noise).reshape(work.tasks, -1, *shape[3:])
        labels = np.repeat(np.arange(WAYS, dtype=np.int32), n)
        arrays[f"{side}_y"] = np.tile(labels, (work.tasks, 1))
    return arrays
