"""All of optax in the inner loop: right and finite, or refused by name."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import metajax as mj
from metajax.types import Batch
from tests.helpers import KEY, relative, sine_episode

pytestmark = [
    pytest.mark.usefixtures("relaxed", "float64"),
    pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning"),
]

REQUIRED = {
    "learning_rate": 0.1,
    "max_delta": 1.0,
    "threshold": 1.0,
    "max_norm": 1.0,
    "clipping": 0.1,
    "decay": 0.9,
    "step_size": -0.1,
    "step_size_fn": lambda count: -0.1 / (1 + count),
    "eta": 0.1,
    "gamma": 0.5,
    "l2_norm_clip": 1.0,
    "noise_multiplier": 0.1,
    "seed": 0,
    "max_backtracking_steps": 3,
    "max_linesearch_steps": 3,
}


def norm(updates):
    return optax.tree.norm(updates)


SGD, ADAM = optax.sgd(0.1), optax.adam(0.1)
SCHEDULE = optax.cosine_decay_schedule(0.1, 5)
ONE, BOTH = {"w": True, "b": False}, {"w": "adam", "b": "sgd"}
OFTEN = lambda step, *_, **__: step % 2 == 0  # noqa: E731
MADE = {
    "add_noise": lambda: optax.add_noise(0.1, 0.5, key=KEY),
    "noisy_sgd": lambda: optax.noisy_sgd(0.1, key=KEY),
    "apply_if_finite": lambda: optax.apply_if_finite(ADAM, 2),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(0.1), SGD),
    "named_chain": lambda: optax.named_chain(("clip", optax.clip(0.1)), ("sgd", SGD)),
    "conditionally_mask": lambda: optax.conditionally_mask(ADAM, OFTEN),
    "conditionally_transform": lambda: optax.conditionally_transform(
        ADAM, OFTEN, forward_extra_args=True
    ),
    "flatten": lambda: optax.flatten(ADAM),
    "freeze": lambda: optax.freeze(ONE),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(SCHEDULE),
    "inject_stateful_hyperparams": lambda: optax.inject_stateful_hyperparams(
        optax.adam
    )(SCHEDULE),
    "lookahead": lambda: optax.lookahead(SGD, 2, 0.5),
    "masked": lambda: optax.masked(ADAM, ONE),
    "measure_with_ema": lambda: optax.measure_with_ema(norm, 0.9),
    "monitor": lambda: optax.chain(optax.monitor({"norm": norm}), SGD),
    "multi_transform": lambda: optax.multi_transform({"adam": ADAM, "sgd": SGD}, BOTH),
    "partition": lambda: optax.partition({"adam": ADAM, "sgd": SGD}, BOTH),
    "selective_transform": lambda: optax.selective_transform(ADAM, freeze_mask=ONE),
    "snapshot": lambda: optax.chain(optax.snapshot("norm", norm), SGD),
    "stateless": lambda: optax.stateless(
        lambda g, p: jax.tree.map(lambda x: x / jnp.sqrt(jnp.sum(x * x) + 1), g)
    ),
    "stateless_with_tree_map": lambda: optax.stateless_with_tree_map(
        lambda g, p: -g * abs(p)
    ),
    "with_extra_args_support": lambda: optax.with_extra_args_support(ADAM),
    "mechanize": lambda: contrib.mechanize(SGD),
    "reduce_on_plateau": lambda: optax.chain(SGD, contrib.reduce_on_plateau()),
    "sam": lambda: contrib.sam(SGD, ADAM),
    "differentially_private_aggregate": lambda: (
        contrib.differentially_private_aggregate(1.0, 0.1, key=KEY)
    ),
    "scale_by_lbfgs": lambda: optax.scale_by_lbfgs(memory_size=2),
    "schedule_free": lambda: contrib.schedule_free(ADAM, 0.1),
    "split_real_and_imaginary": lambda: contrib.split_real_and_imaginary(ADAM),
    # No functions of optax's, but what else its optimizers can be.
    "MultiSteps": lambda: optax.MultiSteps(ADAM, 2),
    "sam, opaque": lambda: contrib.sam(SGD, ADAM, opaque_mode=True),
    "sam, in a chain": lambda: optax.chain(optax.clip(1.0), contrib.sam(SGD, SGD)),
    "sgd, scheduled": lambda: optax.sgd(SCHEDULE, momentum=0.9, nesterov=True),
    "lbfgs, no search": lambda: optax.lbfgs(0.1, 2, linesearch=None),
    "adafactor, factored": lambda: optax.adafactor(0.1, min_dim_size_to_factor=2),
    "rmsprop, centred": lambda: optax.rmsprop(0.1, centered=True, momentum=0.9),
    "sophia, each step": lambda: contrib.sophia(0.1, update_interval=1),
    "galore, in a partition": lambda: optax.partition(
        {"adam": contrib.galore(0.1, rank=1), "sgd": SGD}, BOTH
    ),
}
# Annotated as nothing, or as something else.
UNANNOTATED = {"hutchinson_estimator_diag_hessian", "dog", "dowg", "monitor"}
UNANNOTATED |= {"scale_by_factored_rms"}
REFUSED = {
    "lbfgs": "scale_by_lbfgs.*linesearch=None",
    "scale_by_backtracking_linesearch": "scale_by_backtracking_linesearch.*loop",
    "scale_by_zoom_linesearch": "scale_by_zoom_linesearch.*loop",
    "galore": "galore.*svd",
    "galore, in a partition": "galore.*svd",
    "scale_by_galore": "scale_by_galore.*svd",
    "dpsgd": "differentially_private_aggregate",
    "differentially_private_aggregate": "differentially_private_aggregate",
    "lookahead": "lookahead.*fast",
    "measure_with_ema": "measure_with_ema.*structure",
    "monitor": "monitor.*structure of its state",
    "scale_by_muon": "scale_by_muon.*structure",  # takes nothing but matrices
}
# Their updates are 0 / 0 where the whole gradient is zero, in optax too.
UNDEFINED = {"normalize", "prodigy"}
ASKS = {
    **dict.fromkeys(("polyak_sgd", "scale_by_polyak", "momo", "momo_adam"), "value"),
    "reduce_on_plateau": "value",
    **dict.fromkeys(("sophia", "sophia, each step"), "obj_fn"),
    "hutchinson_estimator_diag_hessian": "obj_fn",
    "sam, opaque": "grad_fn",
}


def factories():
    """What of optax makes a transformation, by its name."""
    for module in (optax, contrib):
        for name in dir(module):
            make = getattr(module, name)
            if name.startswith("_") or not inspect.isfunction(make):
                continue
            made = str(inspect.signature(make).return_annotation)
            if "GradientTransformation" in made or name in UNANNOTATED:
                yield name, make


FACTORIES = dict(factories())
ROWS = sorted({*FACTORIES, *MADE})


def build(name):
    if name in MADE:
        return MADE[name]()
    parameters = inspect.signature(FACTORIES[name]).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty]
    return FACTORIES[name](**{p: REQUIRED[p] for p in required if p != "args"})


def net(params, inputs):
    return jax.nn.relu(inputs @ params["w"] + params["b"])


def ordinary(params, batch):
    return jnp.mean(
        (jnp.tanh(batch.inputs @ params["w"]) + params["b"]) ** 2 * batch.targets
    )


def dead(params, batch):
    """Its second unit is off, and has gradients of exactly zero."""
    return jnp.mean((net(params, batch.inputs) - batch.targets) ** 2)


def weighted(params, batch):
    """Weights of zero, as where learning to reweight starts: no gradient at all."""
    return jnp.sum(batch.targets * jnp.tanh(batch.inputs @ params["w"] + params["b"]))


def setting(loss):
    keys = jax.random.split(KEY, 3)
    params = {"w": jax.random.normal(keys[0], (3, 2)), "b": jnp.array([0.3, -0.4])}
    batch = Batch(*jax.random.normal(keys[1], (2, 4, 3)))
    batch = batch._replace(targets=jnp.abs(batch.targets[:, :2]) + 0.1)
    if loss is dead:
        params["b"] = jnp.array([0.3, -100.0])
    if loss is weighted:
        batch = batch._replace(targets=jnp.zeros((4, 2)))
    return params, batch


def size(params):
    return sum(jnp.sum(jnp.sin(x) + x**2) for x in jax.tree.leaves(params))


def looped(loss, optimizer, asks, steps=2):
    """The inner loop of plain optax, by hand."""

    def adapt(params, batch):
        state = optimizer.init(params)
        for _ in range(steps):
            value, grads = jax.value_and_grad(loss)(params, batch)
            keywords = {
                "value": value,
                "obj_fn": lambda p: loss(p, batch),
                "grad_fn": lambda p, _: jax.grad(loss)(p, batch),
            }
            keywords = {name: x for name, x in keywords.items() if name == asks}
            updates, state = optimizer.update(grads, state, params, **keywords)
            params = optax.apply_updates(params, updates)
        return params

    return adapt


def meta(adapt, given):
    """The value, and the gradient in all that was given, of what was adapted."""
    with jax.disable_jit():  # so that a row compiles next to nothing of its own
        return jax.value_and_grad(lambda given: size(adapt(*given)))(given)


def finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def slope(adapt, given, along, step=1e-5):
    """The derivative of the value along a direction, by central differences."""
    with jax.disable_jit():
        low, high = (
            size(adapt(*jax.tree.map(lambda x, d: x + h * d, given, along)))  # noqa: B023
            for h in (-step, step)
        )
    return (high - low) / (2 * step)


@pytest.mark.parametrize("name", [name for name in ROWS if name not in REFUSED])
def test_each_is_right_and_finite(name):
    optimizer, asks, given = build(name), ASKS.get(name), setting(ordinary)
    ours, gradient = meta(mj.inner_loop(ordinary, optimizer, 2), given)
    value, oracle = meta(looped(ordinary, optimizer, asks), given)
    assert abs(ours - value) <= 1e-12 * abs(value)
    assert finite(gradient)
    if finite(oracle):
        assert relative(gradient, oracle) < 1e-12
    else:
        along = jax.tree.map(
            lambda x: jnp.cos(jnp.arange(x.size * 1.0)).reshape(x.shape), given
        )
        ours = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, along)))
        theirs = slope(looped(ordinary, optimizer, asks), given, along)
        assert abs(ours - theirs) < 1e-6 * abs(theirs)
    for loss in (dead, weighted):
        given = setting(loss)
        value, gradient = meta(mj.inner_loop(loss, optimizer, 1), given)
        with jax.disable_jit():
            expected = size(looped(loss, optimizer, asks, 1)(*given))
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        assert finite(gradient) or (name in UNDEFINED and loss is weighted)


@pytest.mark.parametrize("name", REFUSED)
def test_each_other_is_refused_by_name(name):
    adapt = mj.inner_loop(ordinary, build(name), 2)
    value = lambda *given: size(adapt(*given))  # noqa: E731
    with pytest.raises(mj.InputError, match=REFUSED[name]):
        jax.eval_shape(jax.grad(value), *setting(ordinary))


CLIPS = {
    "global norm": optax.clip_by_global_norm(1.0),
    "block": optax.clip_by_block_rms(1.0),
    "adaptive": optax.adaptive_grad_clip(0.1),
}


@pytest.mark.parametrize("name", CLIPS)
def test_below_a_clip_the_derivative_is_that_of_no_clip(name):
    """At a gradient of zero too, where learning to reweight starts."""
    given = setting(weighted)
    clipped, plain = (
        meta(mj.inner_loop(weighted, optimizer, 1), given)[1]
        for optimizer in (optax.chain(CLIPS[name], SGD), SGD)
    )
    assert finite(clipped) and relative(clipped, plain) < 1e-14


def test_adam_at_no_gradient_has_the_derivative_of_its_quotient():
    loss = lambda w, scale: scale * w  # noqa: E731
    adapt = lambda scale: mj.inner_loop(loss, optax.adam(0.1), 1)(1.0, scale)  # noqa: E731
    np.testing.assert_allclose(jax.grad(adapt)(0.0), -0.1 / 1e-8, rtol=1e-12)
    ours = lambda scale: mj.inner_loop(loss, mj.adam(0.1), 1)(1.0, scale)  # noqa: E731
    np.testing.assert_allclose(jax.grad(ours)(0.0), -0.1 / (1e-4 + 1e-8), rtol=1e-12)


@pytest.mark.parametrize("name", ["adam", "momo", "sam"])
@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_under_transformations(name, transform):
    """Compiled, and of one task as of many; with a learnt rate; in forward mode."""
    given = setting(ordinary)
    make = {
        "adam": optax.inject_hyperparams(optax.adam),
        "momo": contrib.momo,
        "sam": lambda rate: contrib.sam(optax.sgd(rate), ADAM),
    }[name]

    def adapted(rate, given, grad):
        return size(mj.inner_loop(ordinary, make(rate), 2, grad=grad)(*given))

    ours = jax.value_and_grad(lambda *args: adapted(*args, mj.exact), (0, 1))
    if transform is jax.vmap:
        many = jax.tree.map(lambda x: jnp.stack([x, x]), (jnp.array(0.1), given))
        value, gradient = jax.tree.map(lambda x: x[1], jax.vmap(ours)(*many))
    else:
        value, gradient = jax.jit(ours)(0.1, given)

    def by_hand(rate, given):
        return size(looped(ordinary, make(rate), ASKS.get(name))(*given))

    expected, oracle = jax.value_and_grad(by_hand, (0, 1))(0.1, given)
    assert abs(value - expected) < 1e-12 * abs(expected)
    assert relative(gradient, oracle) < 1e-12
    along = (1.0, jax.tree.map(jnp.ones_like, given))
    _, forward = jax.jvp(lambda *args: adapted(*args, mj.reverse), (0.1, given), along)
    np.testing.assert_allclose(
        forward, sum(jnp.sum(x) for x in jax.tree.leaves(oracle)), rtol=1e-10
    )


def test_what_is_handed_is_what_is_accepted():
    seen = {}

    def plain(updates, state, params=None, *, value):
        seen["plain"] = value
        return updates, state

    def any_keyword(updates, state, params=None, **keywords):
        seen["any"] = sorted(keywords)
        return updates, state

    init = lambda params: ()  # noqa: E731

    def named(updates, state, params=None, *, value=None, obj_fn=None, grad_fn=None):
        seen["named"] = value, obj_fn, grad_fn
        return updates, state

    for optimizer in (
        optax.GradientTransformation(init, plain),
        optax.GradientTransformationExtraArgs(init, any_keyword),
        optax.GradientTransformationExtraArgs(init, named),
    ):
        mj.inner_loop(lambda w, batch: w**2, optimizer, 1)(2.0, ())
    assert seen["any"] == ["grad", "grad_fn", "obj_fn", "value", "value_fn"]
    assert seen["plain"].shape == ()
    assert all(given is not None for given in seen["named"])


def test_an_error_of_its_own_is_not_hidden_by_another_try():
    def update(updates, state, params=None, **keywords):
        if "value" in keywords:
            raise ValueError("my own")
        return updates, state

    optimizer = optax.GradientTransformationExtraArgs(lambda params: (), update)
    with pytest.raises(mj.InputError, match="ValueError: my own"):
        mj.inner_loop(lambda w, batch: w**2, optimizer, 1)(2.0, ())


def test_one_without_a_derivative_serves_where_none_is_taken(relaxed):
    model = mj.mlp(hidden=(2,), dtype=jnp.float64)
    learner = mj.reptile(model, mj.mse, optax.lbfgs(), steps=1)
    episode = sine_episode(KEY, jnp.float64)
    meta = learner.init(jax.random.key(1))
    slopes = jax.grad(lambda m: learner.loss(m, episode)[0])(meta)
    moved = jax.tree.map(jnp.subtract, meta, learner.adapt(meta, episode.support))
    for slope, way in zip(jax.tree.leaves(slopes), jax.tree.leaves(moved)):
        np.testing.assert_allclose(slope, way, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer, dtype, start",
    [
        (optax.adam(0.1), jnp.float16, 2.5),
        (optax.adabelief(0.1), jnp.float16, 2.5),
        (optax.scale_by_factored_rms(), jnp.float32, 1e-13),
        (optax.adafactor(0.1), jnp.float32, 1e-13),
    ],
)
def test_fewer_bits_are_right_or_infinite(relaxed, optimizer, dtype, start):
    """Only a pole is held: a wrong number would be worse than infinity."""
    loss = lambda w, batch: 0.5 * jnp.sum(w**2)  # noqa: E731
    params = jnp.full(2, start, dtype)

    def plain(w):
        state = optimizer.init(w)
        for _ in range(2):
            updates, state = optimizer.update(jax.grad(loss)(w, ()), state, w)
            w = optax.apply_updates(w, updates)
        return jnp.sum(w)

    ours = jax.grad(lambda w: jnp.sum(mj.inner_loop(loss, optimizer, 2)(w, ())))
    found = np.asarray(ours(params), float)
    right = np.isclose(found, jax.grad(plain)(params.astype(jnp.float64)), rtol=2e-2)
    assert np.all(right | np.isinf(found))


def test_refuses_a_keyword_that_it_has_not():
    def update(updates, state, params=None, *, hessian, **also):
        return updates, state

    optimizer = optax.GradientTransformationExtraArgs(lambda params: (), update)
    with pytest.raises(mj.InputError, match="hessian.*value, grad, value_fn"):
        mj.inner_loop(ordinary, optimizer, 1)(*setting(ordinary))


def test_refuses_a_state_that_no_scan_can_carry():
    def update(updates, state, params=None):
        return updates, state + jnp.ones((), jnp.float64)

    count = lambda params: jnp.zeros((), jnp.float32)  # noqa: E731
    optimizer = optax.GradientTransformation(count, update)
    with pytest.raises(mj.InputError, match="float32 in its state to float64"):
        mj.inner_loop(ordinary, optimizer, 1)(*setting(ordinary))


def test_refuses_gradients_of_each_example_of_one_array():
    """`dpsgd` would take the rows of a weight for examples."""
    optimizer = contrib.dpsgd(0.1, 1.0, 0.0, 0)
    with pytest.raises(mj.InputError, match="shape of its parameters"):
        mj.inner_loop(lambda w, x: jnp.sum(w**2), optimizer, 1)(jnp.ones((3, 2)), ())


@pytest.mark.parametrize("make", [optax.polyak_sgd, lambda: contrib.momo(0.1)])
def test_an_outer_optimizer_is_given_the_loss(make):
    model, optimizer = mj.mlp(hidden=(4,), dtype=jnp.float64), make()
    learner = mj.maml(model, mj.mse, SGD, 1)
    tasks = mj.data.sinusoid()(KEY, 2)
    tasks = jax.tree.map(lambda x: x.astype(jnp.float64), tasks)
    state = mj.init_state(learner, optimizer, KEY)
    after, metrics = mj.train_step(learner, optimizer)(state, tasks)
    value, grads = jax.value_and_grad(
        lambda meta: jnp.mean(jax.vmap(lambda t: learner.loss(meta, t)[0])(tasks))
    )(state.meta)
    updates, _ = optimizer.update(grads, state.opt_state, state.meta, value=value)
    assert relative(after.meta, optax.apply_updates(state.meta, updates)) < 1e-12


def test_an_outer_optimizer_that_asks_for_more_is_refused():
    model, optimizer = mj.mlp(hidden=(4,), dtype=jnp.float64), optax.lbfgs()
    learner = mj.maml(model, mj.mse, SGD, 1)
    state = mj.init_state(learner, optimizer, KEY)
    tasks = mj.data.sinusoid()(KEY, 2)
    tasks = jax.tree.map(lambda x: x.astype(jnp.float64), tasks)
    with pytest.raises(mj.InputError, match="linesearch.*value_fn"):
        jax.eval_shape(mj.train_step(learner, optimizer), state, tasks)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.complex128])
def test_other_numbers_are_finite_too(dtype):
    loss = lambda w, scale: jnp.real(jnp.sum(scale * w * w.conj())).astype(real)  # noqa: E731
    real = jnp.real(jnp.zeros((), dtype)).dtype
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), ADAM)
    w = jnp.ones(3, dtype)

    def adapt(w, scale):
        adapted = mj.inner_loop(loss, optimizer, 1)(w, scale)
        return size(jax.tree.map(jnp.abs, adapted))

    gradient = jax.grad(adapt, (0, 1))(w, jnp.zeros(3, real))
    assert finite(gradient)
