"""What is measured of a body in pre-training, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

import metajax as mj
from metajax.experiments import bodies
from metajax.experiments.bodies import cosine_classifier, mean_feature
from metajax.types import Model
from tests.helpers import KEY
from tests.learners.test_table import blobs


def test_a_classifier_is_measured_by_cosines_to_class_means():
    model = mj.mlp(2, (4,), 7)
    learner = cosine_classifier(model, 3)
    meta = learner.init(KEY)
    episode = jax.tree.map(lambda x: x[0], blobs(KEY, 1, 2, ways=3))
    x, z = (np.asarray(model.parts[0].apply(meta["body"], b.inputs)) for b in episode)
    means = np.stack([x[episode.support.targets == k].mean(0) for k in range(3)])
    lengths = np.linalg.norm(z, axis=1)[:, None] * np.linalg.norm(means, axis=1)
    expected = z @ means.T / lengths
    outputs = learner.predict(
        learner.adapt(meta, episode.support), episode.query.inputs
    )
    np.testing.assert_allclose(outputs, expected, rtol=1e-4)
    last = jax.tree.map(lambda x: x[-1], learner.trajectory(meta, episode.support))
    np.testing.assert_array_equal(learner.predict(last, episode.query.inputs), outputs)
    loss, _ = learner.loss(meta, episode)
    truth = expected[np.arange(len(expected)), episode.query.targets]
    by_hand = np.mean(np.log(np.exp(expected).sum(1)) - truth)
    np.testing.assert_allclose(loss, by_hand, rtol=1e-4)


def centring():
    """A body that takes the mean of what it settled on from its inputs."""

    def apply(params, x):
        return jax.nn.relu(x - params["mean"][None])

    return Model(
        lambda key: {"mean": jnp.zeros(2)},
        apply,
        settle=lambda params, x: {"mean": jnp.mean(x, 0)},
    )


def test_a_mean_feature_is_of_settled_episodes(monkeypatch):
    monkeypatch.setattr(bodies, "BATCHES", 2)
    body = centring()

    def episodes(key, tasks):
        return blobs(key, tasks, 1, ways=3)

    mean = mean_feature(body, body.init(KEY), jax.tree_util.Partial(episodes))
    features = []
    for key in jax.random.split(jax.random.key(0), 2):
        support, query = (np.asarray(b.inputs) for b in episodes(key, bodies.TASKS))
        for x, z in zip(support, query):
            features += [*np.maximum(x - x.mean(0), 0), *np.maximum(z - x.mean(0), 0)]
    np.testing.assert_allclose(mean, np.mean(features, 0), rtol=1e-5)
