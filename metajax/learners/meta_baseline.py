"""Meta-Baseline: the cosine to the mean of each class, at a learnt scale."""

from collections.abc import Mapping

import jax.numpy as jnp

from metajax.checks import check_count, check_model, check_positive
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.support import class_means, cosines, embed, support_features
from metajax.losses import cross_entropy
from metajax.models.flat import rows
from metajax.ops.precision import dtype_of
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree


def meta_baseline(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    scale: float = 10.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Classifies by the cosine to the mean of each class, times a learnt scale.

      c_k = mean of φ(x) over the support examples of class k
      p(y = k | x) = softmax_k(s cos(φ(x), c_k))

    The paper starts from a body that was pre-trained as a classifier of all training
    classes: see `metajax.models.pretrained`.

    Args:
      body: the embedding φ: `metajax.conv4(5).parts[0]`, or any network of yours.
      ways: the number of classes; no meta-parameter's shape depends on it.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      scale: the initial value of s.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"body": φ, "scale": s}`. A class without
      support examples is never predicted.

    Raises:
      InputError: if the body is not a `Model`, `ways` is not a whole number of at least
        1, or the scale is not a positive number.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, filters=4).parts
    >>> learner = meta_baseline(body, ways=5)

    Source: Chen et al., "Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot
    Learning", ICCV 2021.
    """
    check_model(body)
    check_count("ways", ways, least=1)
    check_positive("scale", scale)

    def init(key: Array) -> PyTree:
        params = body.init(key)
        return {"body": params, "scale": jnp.asarray(scale, dtype_of(params))}

    def adapt(meta: PyTree, support: Batch) -> Params:
        params, features = embed(body, meta["body"], support)
        examples = support_features(features, support.targets, ways)
        centres = class_means(examples.features, examples.members)
        bias = examples.only_present(jnp.zeros(ways, centres.dtype))
        return {**meta, "body": params, "centres": centres, "bias": bias}

    def predict(adapted: Params, inputs: PyTree) -> Array:
        features = rows(body.forward(adapted["body"], inputs))
        similar = adapted["scale"] * cosines(features, adapted["centres"])
        return similar + adapted["bias"][None]

    return feed_forward_learner(init, adapt, predict, loss, metrics)
