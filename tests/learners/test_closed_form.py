"""Linear heads solved from the support set, against numpy's and scipy's solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.test_util import check_grads

import metajax as mj
from metajax.learners.prototypical import prototypes
from metajax.learners.ridge import ridge
from metajax.learners.support import support_features
from metajax.learners.svm import crammer_singer
from metajax.types import Batch, Episode
from tests.helpers import KEY, gradient, relative

WAYS, FEATURES = 3, 6
FACTORIES = {
    "prototypical": mj.prototypical,
    "r2d2": mj.r2d2,
    "lr-d2": mj.lr_d2,
    "meta-opt-net": mj.meta_opt_net,
    "matching": mj.matching,
}
every_factory = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)


@pytest.fixture
def body(float64):
    return mj.mlp(2, (FEATURES,), 1, activation=jnp.tanh, dtype=jnp.float64).parts[0]


@pytest.fixture
def episode(float64):
    """Uneven classes: 1, 2 and 3 support examples."""
    keys = jax.random.split(KEY, 3)
    centres = jax.random.normal(keys[0], (WAYS, 2), jnp.float64)

    def batch(key, labels):
        noise = jax.random.normal(key, (len(labels), 2), jnp.float64)
        return Batch(centres[labels] + 0.5 * noise, labels)

    support = jnp.array([0, 1, 1, 2, 2, 2], jnp.int32)
    return Episode(batch(keys[1], support), batch(keys[2], jnp.arange(9) % WAYS))


def inside(learner, body, episode):
    """The meta-parameters, and numpy's view of features and labels."""
    meta = learner.init(KEY)
    x, q = (np.asarray(body.apply(meta["body"], side.inputs)) for side in episode)
    return meta, x, np.eye(WAYS)[np.asarray(episode.support.targets)], q


def logits(learner, meta, episode):
    adapted = jax.jit(learner.adapt)(meta, episode.support)
    return np.asarray(jax.jit(learner.predict)(adapted, episode.query.inputs))


def test_prototypical_loss(body, episode):
    learner = mj.prototypical(body, WAYS)
    meta, x, y, q = inside(learner, body, episode)
    centres = (y.T @ x) / y.sum(0)[:, None]
    far = ((q[:, None] - centres[None]) ** 2).sum(2)
    chances = np.exp(-far) / np.exp(-far).sum(1, keepdims=True)
    right = chances[np.arange(len(q)), np.asarray(episode.query.targets)]
    np.testing.assert_allclose(
        learner.loss(meta, episode)[0], -np.log(right).mean(), rtol=1e-12
    )


@pytest.mark.parametrize("distractors", [False, True])
def test_unlabelled_examples_refine_prototypes(float64, distractors):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 4)), np.zeros((7, 2))
    y[[0, 1, 2], [0, 1, 1]] = 1  # the others have no label
    reach = 0.3
    centres = (y.T @ x) / y.sum(0)[:, None]
    for _ in range(2):
        far = -((x[:, None] - centres[None]) ** 2).sum(2)
        if distractors:
            none = -(x**2).sum(1) / np.exp(reach) ** 2 - reach
            far = np.concatenate([far, none[:, None]], 1)
        shares = np.exp(far) / np.exp(far).sum(1, keepdims=True)
        shares = shares[:, :2] * (y.sum(1) == 0)[:, None]
        centres = ((y + shares).T @ x) / (y + shares).sum(0)[:, None]
    rule = prototypes(2, distractors=distractors)
    settings = {"log_scale": jnp.array(reach)} if distractors else {}
    examples = support_features(jnp.asarray(x), jnp.asarray(y), 2)
    head = rule.solve(settings, examples)
    np.testing.assert_allclose(head["kernel"].T, 2 * centres, rtol=1e-9)


@pytest.mark.parametrize("n, d", [(4, 9), (9, 4)])
def test_ridge(float64, n, d):
    rng = np.random.default_rng(0)
    x, y, strength = rng.normal(size=(n, d)), rng.normal(size=(n, 3)), 0.7
    found = ridge(jnp.asarray(x), jnp.asarray(y), jnp.array(strength))
    expected = np.linalg.solve(x.T @ x + strength * np.eye(d), x.T @ y)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_r2d2_scales_and_shifts_the_regression(body, episode):
    learner = mj.r2d2(body, WAYS, strength=0.5)
    meta, x, y, q = inside(learner, body, episode)
    meta["rule"] |= {"log_scale": jnp.log(3.0), "offset": jnp.array(0.2)}
    weights = np.linalg.solve(x.T @ x + 0.5 * np.eye(FEATURES), x.T @ y)
    np.testing.assert_allclose(
        logits(learner, meta, episode), 3 * q @ weights + 0.2, rtol=1e-6
    )


def test_lr_d2_is_regularised_logistic_regression(body, episode):
    learner = mj.lr_d2(body, WAYS, strength=0.5, steps=30)
    meta, x, y, q = inside(learner, body, episode)

    def loss(w, labels):
        z = x @ w
        return np.sum(np.logaddexp(0, z) - labels * z) + 0.25 * w @ w

    start = np.zeros(FEATURES)
    weights = [
        scipy.optimize.minimize(loss, start, args=(y[:, k],), tol=1e-12).x
        for k in range(WAYS)
    ]
    np.testing.assert_allclose(
        logits(learner, meta, episode), q @ np.stack(weights, 1), atol=1e-5
    )


def dual(gram, y, penalty):
    """The multi-class support vector machine's, by a solver of another kind."""
    n, ways = y.shape

    def value(a):
        a = a.reshape(n, ways)
        return 0.5 * np.sum(a * (gram @ a)) - np.sum(a * y)

    def slope(a):
        return (gram @ a.reshape(n, ways) - y).ravel()

    sums = np.kron(np.eye(n), np.ones((1, ways)))
    return scipy.optimize.minimize(
        value,
        np.zeros(n * ways),
        jac=slope,
        bounds=[(None, most) for most in (penalty * y).ravel()],
        constraints={"type": "eq", "fun": lambda a: sums @ a, "jac": lambda a: sums},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    ).x.reshape(n, ways)


@pytest.mark.parametrize("scale", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("dtype, precision", [("float64", 1e-5), ("float32", 2e-5)])
def test_the_dual_of_the_svm(float64, scale, dtype, precision):
    rng = np.random.default_rng(0)
    x, y = scale * rng.normal(size=(12, 5)), np.eye(WAYS)[np.arange(12) % WAYS]
    gram, penalty = x @ x.T + np.eye(12), 0.1
    found = crammer_singer(jnp.asarray(gram, dtype), jnp.asarray(y, dtype), penalty)
    expected = dual(gram, y, penalty)
    assert found.dtype == dtype
    assert np.any(np.abs(expected - penalty * y) < 1e-9)  # some bounds hold
    np.testing.assert_allclose(found, expected, atol=precision * penalty)


def test_derivatives_of_the_dual(float64):
    x = jax.random.normal(KEY, (5, 3), jnp.float64)
    labels = jnp.eye(WAYS)[jnp.arange(5) % WAYS]

    @jax.jit
    def solve(x):
        return crammer_singer(x @ x.T + jnp.eye(5), labels, 0.3)

    check_grads(solve, (x,), 2, ["rev"], atol=1e-4, rtol=1e-4)


def test_meta_opt_net_is_the_svm(body, episode):
    learner = mj.meta_opt_net(body, WAYS, penalty=0.3, smoothing=0.5)
    meta, x, y, q = inside(learner, body, episode)
    weights = x.T @ dual(x @ x.T + 0.5 * np.eye(len(x)), y, 0.3)
    np.testing.assert_allclose(logits(learner, meta, episode), q @ weights, atol=1e-5)


@every_factory
def test_gradients(body, episode, factory):
    learner = factory(body, WAYS)
    meta = learner.init(KEY)
    value = jax.jit(lambda meta: learner.loss(meta, episode)[0])
    check_grads(value, (meta,), 1, rtol=1e-4)


@every_factory
def test_the_order_of_the_support_set_does_not_matter(body, episode, factory):
    learner = factory(body, WAYS)
    meta, order = learner.init(KEY), jnp.array([3, 0, 5, 1, 4, 2])
    shuffled = episode._replace(
        support=jax.tree.map(lambda x: x[order], episode.support)
    )
    slopes = gradient(learner)
    ours, theirs = (slopes(meta, e) for e in (shuffled, episode))
    assert relative(ours, theirs) < 1e-9


@every_factory
def test_the_order_of_the_classes_does_not_matter(body, episode, factory):
    learner = factory(body, WAYS)
    meta, names = learner.init(KEY), jnp.array([2, 0, 1])
    renamed = jax.tree.map(lambda x: x, episode)
    renamed = Episode(*(b._replace(targets=names[b.targets]) for b in renamed))
    plain, other = (logits(learner, meta, e) for e in (episode, renamed))
    np.testing.assert_allclose(other[:, names], plain, rtol=1e-9, atol=1e-12)


@every_factory
def test_ways_shape_no_parameter(body, episode, factory):
    many, few = factory(body, 60).init(KEY), factory(body, WAYS).init(KEY)
    assert relative(many, few) == 0
    assert logits(factory(body, WAYS), many, episode).shape == (9, WAYS)


@every_factory
def test_a_class_without_examples_is_never_chosen(body, episode, factory):
    """And changes nothing of the others', but where it bounds the SVM."""
    few, many = factory(body, WAYS), factory(body, WAYS + 2)
    meta = few.init(KEY)
    wide, plain = (logits(learner, meta, episode) for learner in (many, few))
    assert np.all(wide[:, WAYS:] < -1e30)
    if factory is not mj.meta_opt_net:
        np.testing.assert_allclose(wide[:, :WAYS], plain, rtol=1e-9, atol=1e-12)
        ours, theirs = (gradient(learner)(meta, episode) for learner in (many, few))
        assert relative(ours, theirs) < 1e-9


@every_factory
def test_examples_without_a_label_have_no_part(body, episode, factory):
    """But where they refine prototypes."""
    learner = factory(body, WAYS)
    meta, (x, y) = learner.init(KEY), episode.support
    more = jnp.concatenate([x, 2 * x[:3]])
    known = jnp.concatenate([jnp.eye(WAYS)[y], jnp.zeros((3, WAYS))])
    wide = episode._replace(support=Batch(more, known))
    ours, theirs = (gradient(learner)(meta, e) for e in (wide, episode))
    assert relative(ours, theirs) < 1e-7


@every_factory
def test_features_of_no_parameters(episode, factory):
    learner = factory(
        mj.Model(lambda key: {}, lambda _, x: x.astype(jnp.float32)), WAYS
    )
    value, _ = learner.loss(learner.init(KEY), episode)
    assert np.isfinite(value)


@every_factory
def test_refuses_probabilities_of_other_ways(body, episode, factory):
    learner = factory(body, WAYS)
    soft = episode.support._replace(targets=jnp.ones((6, WAYS + 1)))
    with pytest.raises(mj.InputError, match="of 3 ways, got"):
        learner.adapt(learner.init(KEY), soft)


@every_factory
@pytest.mark.parametrize("ways", [0, 2.5])
def test_refuses_other_ways(body, factory, ways):
    with pytest.raises(mj.InputError, match="ways must be a whole number"):
        factory(body, ways)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda body: mj.r2d2(body, 2, strength=0), "strength must be a positive"),
        (lambda body: mj.lr_d2(body, 2, strength=jnp.inf), "strength must be a"),
        (lambda body: mj.lr_d2(body, 2, steps=0), "steps must be a whole number"),
        (lambda body: mj.meta_opt_net(body, 1), "at least 2 ways, got 1"),
        (lambda body: mj.meta_opt_net(body, 2, penalty=-1), "penalty must be a"),
        (lambda body: mj.prototypical(body, 2, refinements=-1), "refinements must"),
        (lambda body: mj.prototypical(body, 2, distractors=True), "refinements must"),
        (lambda body: mj.matching(body, 2, scale=0), "scale must be a positive"),
    ],
)
def test_refuses_bad_settings(body, build, message):
    with pytest.raises(mj.InputError, match=message):
        build(body)


@every_factory
def test_of_no_support_set_nothing_is_predicted(body, episode, factory):
    learner = factory(body, WAYS)
    meta, (support, query) = learner.init(KEY), episode
    empty = Episode(jax.tree.map(lambda x: x[:0], support), query)
    (loss, _), grads = jax.value_and_grad(learner.loss, has_aux=True)(meta, empty)
    np.testing.assert_allclose(loss, np.log(WAYS), rtol=1e-12)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
