"""SimpleShot: the nearest centroid of features about a mean, at length one."""

from collections.abc import Mapping

from metajax.learners.prototypical import prototypical
from metajax.losses import cross_entropy
from metajax.models.centred import centred
from metajax.types import Array, Learner, Loss, Model


def simple_shot(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    mean: Array | None = None,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Classifies by the nearest class mean of centred features of length one (CL2N).

      z(x) = (φ(x) - μ) / |φ(x) - μ|
      c_k = mean of z(x) over the support examples of class k
      p(y = k | x) = softmax_k(-|z(x) - c_k|²)

    φ is pre-trained as a classifier of all training classes, given by
    `metajax.models.pretrained`, and never meta-trained.

    Args:
      body: the embedding φ.
      ways: the number of classes; no meta-parameter's shape depends on it.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      mean: μ, `float[d]`, the mean feature of the training classes, as in the paper; by
        default that of each task's support set.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner`: `metajax.prototypical` on `metajax.models.centred`. The mean is one
      of its meta-parameters, if there is one.

    Raises:
      InputError: if the body is not a `Model`, or `ways` is not a whole number of at
        least 1.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, filters=4).parts
    >>> learner = simple_shot(body, ways=5)

    Source: Wang et al., "SimpleShot: Revisiting Nearest-Neighbor Classification for
    Few-Shot Learning", 2019.
    """
    return prototypical(centred(body, mean), ways, loss, metrics=metrics)
