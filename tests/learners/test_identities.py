"""What one learner must have in common with another, or with a loop in Python."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import metajax as mj
from metajax import learners
from metajax.learners.prototypical import prototype_head
from metajax.learners.support import class_means, support_features
from metajax.types import Batch, Episode
from tests.helpers import (
    KEY,
    descend,
    gradient,
    image_episode,
    naive_maml,
    relative,
    sine_episode,
    small_conv,
)

RATE, STEPS = 0.05, 3


@pytest.fixture
def model(float64):
    return mj.mlp(hidden=(8,), activation=jnp.tanh, dtype=jnp.float64)


@pytest.fixture
def episode(float64):
    return sine_episode(KEY, jnp.float64)


def plain(meta, episode, model):
    outputs = model.apply(meta, episode.query.inputs)
    return mj.mse(outputs, episode.query.targets)


@pytest.mark.parametrize("factory", [mj.maml, mj.fomaml, mj.anil, mj.boil])
def test_no_steps_is_the_plain_gradient(model, episode, factory):
    learner = factory(model, mj.mse, optax.sgd(RATE), 0)
    meta = learner.init(KEY)
    expected = jax.grad(plain)(meta, episode, model)
    assert relative(gradient(learner)(meta, episode), expected) < 1e-12


def of_head(path):
    return path.startswith("['head']")


@pytest.mark.parametrize(
    "factory, adapts",
    [
        (mj.anil, "head"),
        (partial(mj.maml, adapts=of_head), "head"),
        (mj.boil, "body"),
    ],
    ids=["anil", "maml of the head", "boil"],
)
def test_a_part_alone_is_maml_with_the_other_frozen(model, episode, factory, adapts):
    kept = {"head": "body", "body": "head"}[adapts]
    frozen = optax.partition(
        {adapts: optax.sgd(RATE), kept: optax.set_to_zero()},
        {"body": "body", "head": "head"},
    )
    part = factory(model, mj.mse, optax.sgd(RATE), STEPS)
    whole = mj.maml(model, mj.mse, frozen, STEPS, grad=mj.reverse)
    meta = part.init(KEY)
    ours, theirs = (gradient(learner)(meta, episode) for learner in (part, whole))
    assert relative(ours, theirs) < 1e-12
    adapted = jax.jit(part.adapt)(meta, episode.support)
    assert relative(adapted[kept], meta[kept]) == 0
    assert relative(adapted[adapts], meta[adapts]) > 1e-3
    trajectories = [
        jax.jit(learner.trajectory)(meta, episode.support) for learner in (part, whole)
    ]
    assert relative(*trajectories) < 1e-12


def test_any_arrays_alone_may_adapt(model, episode):
    """Biases by an optimizer with a state, as if the others had gradients of zero."""
    momentum = optax.sgd(RATE, momentum=0.9)
    part = mj.maml(model, mj.mse, momentum, STEPS, adapts=lambda path: "bias" in path)
    meta = part.init(KEY)
    labels = jax.tree.map(lambda x: "kernel" if x.ndim > 1 else "bias", meta)
    frozen = optax.partition({"bias": momentum, "kernel": optax.set_to_zero()}, labels)
    whole = mj.maml(model, mj.mse, frozen, STEPS, grad=mj.reverse)
    ours, theirs = (gradient(learner)(meta, episode) for learner in (part, whole))
    assert relative(ours, theirs) < 1e-12


def test_something_must_adapt(model, episode):
    learner = mj.maml(model, mj.mse, optax.sgd(RATE), 1, adapts=learners.nothing)
    with pytest.raises(mj.InputError, match=r"which are \['body'\]\[0\]\['bias'\], "):
        learner.adapt(learner.init(KEY), episode.support)


def test_meta_sgd_at_one_rate_is_maml(model, episode):
    learned = mj.meta_sgd(model, mj.mse, RATE, STEPS)
    fixed = mj.maml(model, mj.mse, optax.sgd(RATE), STEPS)
    meta = learned.init(KEY)
    ours = gradient(learned)(meta, episode)
    theirs = gradient(fixed)(meta["params"], episode)
    assert relative(ours["params"], theirs) < 1e-12
    # Along the direction in which all rates grow alike, the derivative by one rate.
    by_rate = jax.jit(
        jax.grad(
            lambda rate: naive_maml(model, mj.mse, descend(rate), STEPS)(
                meta["params"], episode
            )
        )
    )(RATE)
    together = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(ours["inner"]))
    np.testing.assert_allclose(together, by_rate, rtol=1e-10)
    value = jax.jit(lambda m: learned.loss(m, episode)[0])
    check_grads(value, (meta,), order=1, modes=["rev"])


def test_rates_of_steps_at_one_rate_are_maml(model, episode):
    inner = learners.step_rates(RATE, STEPS)
    learned = mj.learned_maml(model, mj.mse, inner, STEPS)
    meta = learned.init(KEY)
    ours = gradient(learned)(meta, episode)
    loop = naive_maml(model, mj.mse, descend(RATE), STEPS)
    expected = jax.jit(jax.grad(loop))(meta["params"], episode)
    assert relative(ours["params"], expected) < 1e-12

    def with_rates(rates):
        rule = lambda params, grads, k: jax.tree.map(  # noqa: E731
            lambda p, g: p - rates[k] * g, params, grads
        )
        return naive_maml(model, mj.mse, rule, STEPS)(meta["params"], episode)

    by_step = jax.jit(jax.grad(with_rates))(jnp.full(STEPS, RATE))
    together = sum(jax.tree.leaves(ours["inner"]))
    np.testing.assert_allclose(together, by_step, rtol=1e-10)


def test_curvature_starts_as_plain_descent(model, episode):
    curved = mj.learned_maml(model, mj.mse, learners.curvature(RATE), STEPS)
    meta = curved.init(KEY)
    loop = naive_maml(model, mj.mse, descend(RATE), STEPS)
    ours = gradient(curved)(meta, episode)
    expected = jax.jit(jax.grad(loop))(meta["params"], episode)
    assert relative(ours["params"], expected) < 1e-12
    value = jax.jit(lambda m: curved.loss(m, episode)[0])
    check_grads(value, (meta,), order=1, modes=["rev"])


def test_curvature_multiplies_along_every_axis(float64):
    inner = learners.curvature(1.0)
    kernel = jax.random.normal(KEY, (2, 3, 4, 5), jnp.float64)
    rule = jax.tree.map(
        lambda x: jax.random.normal(KEY, x.shape, x.dtype), inner.init(KEY, kernel)
    )
    update, _ = inner.build(rule).update(kernel, optax.EmptyState())
    window, inputs, outputs = rule
    flat = jnp.kron(window, jnp.kron(inputs, outputs)) @ kernel.ravel()
    np.testing.assert_allclose(-update.ravel(), flat, rtol=1e-12)


def quadratic(key):
    """A model whose support loss is a quadratic of its parameters."""
    rows = jax.random.normal(key, (8, 4), jnp.float64)
    model = mj.Model(lambda key: jnp.ones(4, jnp.float64), lambda w, x: x @ w)
    targets = jax.random.normal(jax.random.key(7), (8,), jnp.float64)
    half = Batch(rows[:4], targets[:4]), Batch(rows[4:], targets[4:])
    return model, Episode(*half)


def test_imaml_solves_a_quadratic(float64):
    model, episode = quadratic(KEY)
    strength, (x, y) = 0.7, episode.support
    hessian = 2 * x.T @ x / len(y)
    learner = mj.imaml(
        model,
        mj.mse,
        optax.sgd(0.1),
        2000,
        strength=strength,
        cg_steps=20,
        tolerance=1e-14,
    )
    meta = model.init(KEY)
    system = hessian + strength * jnp.eye(4)
    solution = jnp.linalg.solve(system, 2 * x.T @ y / len(y) + strength * meta)
    assert relative(learner.adapt(meta, episode.support), solution) < 1e-10
    query = jax.grad(
        lambda w: mj.mse(model.apply(w, episode.query.inputs), episode.query.targets)
    )(solution)
    expected = jnp.linalg.solve(system, strength * query)
    assert relative(gradient(learner)(meta, episode), expected) < 1e-10
    # Of what the solution depends on beside the start, too.
    by_targets = jax.grad(
        lambda y: learner.loss(meta, episode._replace(support=Batch(x, y)))[0]
    )(y)
    exact = 2 / len(y) * x @ jnp.linalg.solve(system, query)
    assert relative(by_targets, exact) < 1e-10


def test_imaml_approaches_maml_as_the_inner_problem_is_solved(model, episode):
    strength = 1.0

    def unrolled(meta, steps):
        def regularised(params, batch):
            apart = jax.tree.map(lambda p, m: jnp.sum((p - m) ** 2), params, meta)
            value = plain(params, episode._replace(query=batch), model)
            return value + strength / 2 * sum(jax.tree.leaves(apart))

        adapt = mj.inner_loop(regularised, optax.sgd(RATE), steps)
        return plain(adapt(meta, episode.support), episode, model)

    meta, apart = model.init(KEY), []
    for steps in (5, 50, 500):
        learner = mj.imaml(
            model,
            mj.mse,
            optax.sgd(RATE),
            steps,
            strength=strength,
            cg_steps=200,
            tolerance=1e-12,
        )
        ours = gradient(learner)(meta, episode)
        apart.append(
            relative(ours, jax.jit(jax.grad(unrolled), static_argnums=1)(meta, steps))
        )
    assert apart[0] > apart[1] > apart[2] and apart[2] < 1e-6


def test_proto_maml_of_no_steps_is_the_nearest_prototype(float64):
    model = small_conv(jnp.float64)
    episode = image_episode(KEY, shots=2, dtype=jnp.float64)
    learner = mj.proto_maml(model, mj.cross_entropy, optax.sgd(0.1), 0)
    meta, (body, _) = learner.init(KEY), model.parts
    logits = learner.predict(learner.adapt(meta, episode.support), episode.query.inputs)
    support, query = (
        np.asarray(body.apply(meta, side.inputs)).reshape(len(side.targets), -1)
        for side in episode
    )
    centres = np.stack(
        [support[episode.support.targets == k].mean(0) for k in range(3)]
    )
    distances = ((query[:, None] - centres[None]) ** 2).sum(2)
    # Logits are minus the squared distances, up to a number for each example.
    np.testing.assert_allclose(
        logits - logits[:, :1], distances[:, :1] - distances, rtol=1e-9, atol=1e-9
    )


def test_prototypes_of_probabilities_are_weighted_means(float64):
    keys, labels = jax.random.split(KEY), jnp.array([0, 1, 1, 2])
    features = jax.random.normal(keys[0], (4, 6), jnp.float64)

    def head(targets, ways):
        members = support_features(features, targets, ways).members
        return prototype_head(class_means(features, members))

    plain = head(labels, 4)
    for name, value in head(jnp.eye(4)[labels], 4).items():
        np.testing.assert_array_equal(value, plain[name])
    weights = 0.2 * jax.random.uniform(keys[1], (4, 3), jnp.float64)  # few of each
    averages = [np.average(features, axis=0, weights=weights[:, k]) for k in range(3)]
    kernel = head(weights, 3)["kernel"]
    np.testing.assert_allclose(kernel.T, 2 * np.stack(averages), rtol=1e-12)


def test_cavia_adapts_the_context_alone(float64, episode):
    model = mj.mlp(1 + 3, (8,), activation=jnp.tanh, dtype=jnp.float64)
    learner = mj.cavia(model, mj.mse, optax.sgd(RATE), STEPS, context=3)
    meta = learner.init(KEY)

    def outputs(params, context, x):
        rows = jnp.concatenate([x, jnp.tile(context, (len(x), 1))], 1)
        return model.apply(params, rows)

    def loop(meta, episode):
        context = jnp.zeros(3)
        for _ in range(STEPS):
            context -= RATE * jax.grad(
                lambda c: mj.mse(
                    outputs(meta, c, episode.support.inputs), episode.support.targets
                )
            )(context)
        found = outputs(meta, context, episode.query.inputs)
        return mj.mse(found, episode.query.targets)

    expected = jax.jit(jax.grad(loop))(meta, episode)
    assert relative(gradient(learner)(meta, episode), expected) < 1e-12


def test_imaml_refuses_no_regularisation():
    with pytest.raises(mj.InputError, match="strength must be above 0"):
        mj.imaml(mj.mlp(), mj.mse, optax.sgd(0.1), 1, strength=0.0)


def test_maml_plus_plus_with_every_part_off_is_maml(model, episode):
    inner = learners.fixed(optax.sgd(RATE))
    plus = mj.maml_plus_plus(model, mj.mse, inner, STEPS, per_step=learners.nothing)
    meta = plus.init(KEY)
    ours = gradient(plus)(meta, episode)["params"]
    theirs = gradient(mj.maml(model, mj.mse, optax.sgd(RATE), STEPS))(
        meta["params"], episode
    )
    assert relative(ours, theirs) < 1e-12


def test_maml_plus_plus_is_its_loop(float64):
    model, steps = small_conv(jnp.float64), 2
    episode = image_episode(KEY, dtype=jnp.float64)
    weights = learners.multi_step_weights(10, steps, 100)
    learner = mj.maml_plus_plus(
        model,
        mj.cross_entropy,
        learners.step_rates(RATE, steps),
        steps,
        step_weights=weights,
    )
    meta = jax.tree.map(
        lambda x: x + 0.01 * jax.random.normal(KEY, x.shape, x.dtype),
        learner.init(KEY),
    )

    def loop(meta, episode):
        def value(params, k, batch):
            own = jax.tree.map(lambda x: x[k], meta["per_step"])
            blocks = zip(params["body"], own["body"])
            body = [{**a, **{n: b[n] for n in ("scale", "offset")}} for a, b in blocks]
            whole = {"body": body, "head": params["head"]}
            return mj.cross_entropy(model.apply(whole, batch.inputs), batch.targets)

        params, total = meta["params"], 0.0
        for k in range(steps):
            grads = jax.grad(value)(params, k, episode.support)
            params = jax.tree.map(
                lambda p, g, a: p - a[k] * g,  # noqa: B023
                params,
                grads,
                meta["inner"],
            )
            total += weights[k] * value(params, k + 1, episode.query)
        return total

    ours, theirs = (
        jax.jit(jax.value_and_grad(f))(meta, episode)
        for f in (lambda m, e: learner.loss(m, e)[0], loop)
    )
    assert relative(ours, theirs) < 1e-12


def test_the_weights_of_steps_are_shares_of_one():
    for step in (0, 50, 99, 100, 1000):
        weights = learners.multi_step_weights(step, 5, 100)
        assert abs(float(jnp.sum(weights)) - 1.0) < 1e-6
    assert weights.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert learners.multi_step_weights(0, 5, 100).tolist() == pytest.approx([0.2] * 5)
    assert float(learners.multi_step_weights(99, 5, 100)[0]) == pytest.approx(0.006)


def test_a_switch_is_first_order_and_then_exact(model, episode):
    parts = model, mj.mse, optax.sgd(RATE), STEPS
    schedule = learners.switch(10, mj.fomaml(*parts), mj.maml(*parts))
    meta = model.init(KEY)
    batch = jax.tree.map(lambda x: x[None], episode)
    switched = jax.jit(mj.meta_gradient(schedule))
    for step, learner in ((9, mj.fomaml(*parts)), (10, mj.maml(*parts))):
        (_, ours), theirs = (
            switched(meta, batch, step),
            gradient(learner)(meta, episode),
        )
        assert relative(ours, theirs) < 1e-12
    assert switched._cache_size() == 1


@pytest.mark.parametrize("size", [None, 2])
def test_reptile_goes_back_from_what_was_adapted(model, episode, size):
    view = {} if size is None else {"view": mj.mini_batches(size)}
    learner = mj.reptile(model, mj.mse, optax.sgd(RATE), STEPS, **view)
    meta, support = learner.init(KEY), episode.support
    params, count = meta, len(support.targets)
    for k in range(STEPS):
        taken = count if size is None else size
        rows = [(k + i * (count // taken)) % count for i in range(taken)]
        batch = jax.tree.map(lambda x: x[np.array(rows)], support)  # noqa: B023
        grads = jax.grad(plain)(params, episode._replace(query=batch), model)
        params = jax.tree.map(lambda p, g: p - RATE * g, params, grads)
    back = jax.tree.map(lambda a, b: a - b, meta, params)
    assert relative(gradient(learner)(meta, episode), back) < 1e-12


@pytest.mark.parametrize("factory", [mj.anil, mj.boil])
def test_parts_must_be_known(factory):
    headless = mj.Model(lambda key: jnp.ones(1), lambda params, x: params * x)
    with pytest.raises(mj.InputError, match=r"metajax\.headed\(body, head\)"):
        factory(headless, mj.mse, optax.sgd(0.1), 1)


@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_rates_must_start_finite(rate):
    with pytest.raises(mj.InputError, match="finite"):
        mj.meta_sgd(mj.mlp(), mj.mse, rate)


@pytest.mark.parametrize(
    "weights", [jnp.ones(1), 1.0, jnp.ones((3, 1)), [[1.0], [1.0, 2.0], 3.0], "abc"]
)
def test_each_step_has_a_weight(weights):
    inner = learners.step_rates(RATE, STEPS)
    with pytest.raises(mj.InputError, match=r"step_weights must be \[3\], one number"):
        mj.maml_plus_plus(mj.mlp(), mj.mse, inner, STEPS, step_weights=weights)


def test_weights_of_no_steps_are_left_out():
    inner = learners.step_rates(RATE, STEPS)
    with pytest.raises(mj.InputError, match="needs steps of at least 1, got 0; leave"):
        mj.maml_plus_plus(mj.mlp(), mj.mse, inner, 0, step_weights=jnp.ones(0))


def test_weights_may_be_whole_numbers():
    inner = learners.fixed(optax.sgd(RATE))
    x = jnp.ones((2, 1))
    episode = Episode(Batch(x, 3 * x), Batch(x, 3 * x))
    parts = mj.mlp(1, (2,), 1), mj.mse, inner, 2
    plain = mj.maml_plus_plus(*parts)
    meta = plain.init(KEY)
    weighted = mj.maml_plus_plus(*parts, step_weights=[0, 1])
    theirs = plain.loss(meta, episode)[0]
    np.testing.assert_allclose(weighted.loss(meta, episode)[0], theirs, rtol=1e-6)


@pytest.mark.parametrize(
    "numbers, name",
    [((0, 0, 10), "steps"), ((0, 3, 0), "until"), ((0, 3, -1), "until")],
)
def test_weights_are_of_some_steps(numbers, name):
    with pytest.raises(mj.InputError, match=f"{name} must be a"):
        learners.multi_step_weights(*numbers)


def test_weights_may_be_annealed_over_any_number():
    expected = learners.multi_step_weights(5, 3, 10)
    for until in (10.5, jnp.float32(10.5)):
        ours = learners.multi_step_weights(5.25, 3, until)
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
    traced = jax.jit(lambda until: learners.multi_step_weights(5.0, 3, until))
    np.testing.assert_allclose(traced(10.0), expected, rtol=1e-6)


def test_a_context_is_of_the_networks_type(float64):
    """Whatever inputs it is joined to: whole numbers, or several arrays."""

    def join(inputs, context):
        x = inputs["x"].astype(context.dtype)
        return jnp.concatenate([x, jnp.broadcast_to(context, (len(x), 3))], axis=1)

    model = mj.mlp(1 + 3, (4,), 1, activation=jnp.tanh, dtype=jnp.float64)
    ours = mj.cavia(model, mj.mse, optax.sgd(RATE), STEPS, context=3, join=join)
    plain = mj.cavia(model, mj.mse, optax.sgd(RATE), STEPS, context=3)
    x, meta = jnp.arange(4.0)[:, None], plain.init(KEY)
    whole = Batch({"x": x.astype(jnp.int32)}, jnp.sin(x))
    found = gradient(ours)(meta, Episode(whole, whole))
    sides = Episode(*[Batch(x, jnp.sin(x))] * 2)
    assert relative(found, gradient(plain)(meta, sides)) < 1e-14


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float16, jnp.bfloat16])
def test_a_context_joins_narrower_inputs(dtype):
    model = mj.mlp(1 + 2, (3,), 1)
    learner = mj.cavia(model, mj.mse, optax.sgd(RATE), 1, context=2)
    meta, x = learner.init(KEY), jnp.arange(3.0)[:, None]
    sides = [Episode(*[Batch(x.astype(t), x)] * 2) for t in (dtype, jnp.float32)]
    ours, theirs = (learner.loss(meta, episode)[0] for episode in sides)
    assert ours == theirs


def test_a_context_leaves_wider_inputs_to_the_network(float64):
    learner = mj.cavia(mj.mlp(1 + 5, (3,), 1), mj.mse, optax.sgd(RATE), 1)
    meta, x = learner.init(KEY), jnp.ones((2, 1), jnp.float64)
    with pytest.raises(mj.InputError, match="cast the inputs"):
        learner.adapt(meta, Batch(x, x))


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
@pytest.mark.parametrize("factory", [mj.maml, mj.reptile])
def test_a_metric_does_not_take_the_name_of_another(factory, name):
    with pytest.raises(mj.InputError, match=f'cannot have the name "{name}"'):
        factory(mj.mlp(), mj.mse, optax.sgd(RATE), 1, metrics={name: mj.mse})


def test_the_first_of_several_bad_names_is_said():
    metrics = dict.fromkeys(["gradient_norm", "loss"], mj.mse)
    with pytest.raises(mj.InputError, match='cannot have the name "loss"'):
        mj.maml(mj.mlp(), mj.mse, optax.sgd(RATE), 1, metrics=metrics)


@pytest.mark.parametrize(
    "inner", [learners.step_rates(0.1, 2), learners.curvature(0.1)]
)
def test_a_parameter_may_be_a_plain_number(inner):
    model = mj.Model(
        lambda key: {"w": jnp.ones((1, 1)), "scale": 2.0},
        lambda params, x: params["scale"] * x @ params["w"],
    )
    x = jnp.ones((2, 1))
    episode = Episode(Batch(x, 3 * x), Batch(x, 3 * x))
    for learner in (
        mj.learned_maml(model, mj.mse, inner, 2),
        mj.maml_plus_plus(model, mj.mse, inner, 2),
    ):
        assert learner.loss(learner.init(KEY), episode)[0] < 1
