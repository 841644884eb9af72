"""What is measured of a body in pre-training: few-shot accuracy, and a mean feature."""

import jax
import jax.numpy as jnp

from metajax.learners import meta_baseline, reparametrised
from metajax.models.flat import rows
from metajax.models.headed import parts
from metajax.types import Array, Episode, Learner, Model, Params, PyTree, Sampler

BATCHES, TASKS = 16, 8  # of which the mean feature is taken


def cosine_classifier(classifier: Model, ways: int) -> Learner:
    """The cosine to the mean feature of each class, on a classifier's body.

    `metajax.meta_baseline` at a scale of 1.

    Args:
      classifier: the model, of a body and a head.
      ways: of a task.

    Returns:
      A `Learner` whose meta-parameters are the classifier's.
    """
    body, _ = parts(classifier, "pretrain")

    def without_head(meta: PyTree) -> PyTree:
        return {"body": meta["body"], "scale": jnp.ones(())}

    return reparametrised(meta_baseline(body, ways), classifier.init, without_head)


def mean_feature(body: Model, params: Params, episodes: Sampler) -> Array:
    """The mean feature of the images of training episodes, `float[d]`.

    In each, the body settles on the support set, and embeds both sets: its batch norm
    goes by the statistics that it has when the mean is used.

    Args:
      body: the body.
      params: its parameters.
      episodes: of the training classes, of which 128 are taken.
    """

    def features(params: Params, episode: Episode) -> Array:
        settled = body.settle(params, episode.support.inputs)
        sides = (body.predict(settled, side.inputs) for side in episode)
        return jnp.concatenate([rows(side) for side in sides])

    @jax.jit
    def mean(params: Params, episodes: Sampler, key: Array) -> Array:
        each = jax.vmap(features, (None, 0))(params, episodes(key, TASKS))
        return jnp.mean(each, (0, 1))

    keys = jax.random.split(jax.random.key(0), BATCHES)
    return jnp.mean(jnp.stack([mean(params, episodes, key) for key in keys]), 0)
