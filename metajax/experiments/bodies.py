"""What is measured of a body in pre-training: few-shot accuracy, and a mean feature."""

import jax
import jax.numpy as jnp

from metajax.data import JointBatches
from metajax.learners import meta_baseline
from metajax.models.headed import parts
from metajax.types import Array, Batch, Learner, Model, Params, PyTree

BATCHES = 16  # of which the mean feature is taken


def nearest_centroid(classifier: Model, ways: int) -> Learner:
    """The nearest centroid on a classifier's body, by features of length one.

    Args:
      classifier: the model, of a body and a head.
      ways: of a task.

    Returns:
      A `Learner` whose meta-parameters are the classifier's.
    """
    body, _ = parts(classifier, "pretrain")
    learner = meta_baseline(body, ways)

    def of_body(meta: PyTree) -> PyTree:
        return {"body": meta["body"], "scale": jnp.ones(())}

    def adapt(meta: PyTree, support: Batch) -> PyTree:
        return learner.adapt(of_body(meta), support)

    def trajectory(meta: PyTree, support: Batch) -> PyTree:
        return learner.trajectory(of_body(meta), support)

    return learner._replace(init=classifier.init, adapt=adapt, trajectory=trajectory)


def mean_feature(body: Model, params: Params, batches: JointBatches) -> Array:
    """The mean feature of training images, `float[d]`.

    Args:
      body: the body.
      params: its parameters.
      batches: of all training classes, of which 16 are taken.
    """

    @jax.jit
    def mean(params: Params, batches: JointBatches, key: Array) -> Array:
        images = batches(key, 1).query.inputs[0]
        features = body.predict(params, images)
        return jnp.mean(features.reshape(len(images), -1), 0)

    keys = jax.random.split(jax.random.key(0), BATCHES)
    return jnp.mean(jnp.stack([mean(params, batches, key) for key in keys]), 0)
