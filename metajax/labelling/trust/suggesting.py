"""Which pictures to label next."""

import numpy as np

POOL = 10  # times as many of the least certain are chosen from


def suggest(probabilities: np.ndarray, count: int) -> list[int]:
    """The pictures whose labels would teach most: uncertain, and unlike each other.

    Of the 10 k pictures of the smallest margins between their two classes, the first
    is the least certain one, and each next one is the farthest from those chosen, in
    Hellinger's distance of the probabilities of the classes and of none of them.

    Args:
      probabilities: of the classes, `float[n, classes]`; the rest of 1 is for none.
      count: k, how many.

    Returns:
      At most k numbers of pictures, the first chosen first.

    >>> suggest(np.array([[0.9, 0.1], [0.5, 0.5], [0.51, 0.49], [0.2, 0.2]]), 2)
    [1, 3]

    Source: Settles, "Active Learning Literature Survey", 2009, section 3.1; Gonzalez,
    "Clustering to Minimize the Maximum Intercluster Distance", 1985.
    """
    first, second = -np.sort(-probabilities, axis=1)[:, :2].T
    pool = np.argsort(first - second, kind="stable")[: POOL * count]
    none = 1 - probabilities.sum(axis=1, keepdims=True)
    whole = np.concatenate([probabilities, np.maximum(none, 0.0)], axis=1)
    points = np.sqrt(np.maximum(whole[pool], 0.0))
    chosen: list[int] = []
    nearest = np.full(len(pool), np.inf)
    for _ in range(min(count, len(pool))):
        place = int(np.argmax(nearest)) if chosen else 0
        chosen.append(int(pool[place]))
        away = np.linalg.norm(points - points[place], axis=1)
        nearest = np.minimum(nearest, away)
        nearest[place] = -1.0
    return chosen
