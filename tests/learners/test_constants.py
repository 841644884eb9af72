"""What a network has and nothing learns: in every learner, and through training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax._pytrees.constant import learnt
from metajax.training.averaging import averaged, parameter_average
from metajax.training.checkpoints import Checkpoints
from metajax.types import keep
from tests.helpers import KEY, lenient, relative
from tests.learners.test_table import (
    LEARNERS,
    OUTLINES,
    SCENES,
    WIDTH,
    build,
    meta_batch,
    network,
    of_steps,
    one_episode,
)

SPREAD = jnp.array([0.5, 2.0, 1.5, 0.7])


def held(model, *, inside, width=1):
    """A network whose outputs are scaled and permuted by arrays that are not learnt.

    They are among its parameters, or the network closes over them.
    """

    def arrays(width):
        return {"order": jnp.arange(width)[::-1], "spread": SPREAD[:width]}

    def changed(outputs, given):
        given = arrays(outputs.shape[-1]) if given is None else given
        spread = given["spread"].reshape((1,) * (outputs.ndim - 1) + (-1,))
        return outputs[..., given["order"]] * spread

    def init(key):
        params = model.init(key)
        if not inside:
            return {"net": params}
        return {"net": params, "held": jax.tree.map(mj.Constant, arrays(width))}

    def apply(params, x):
        given = params.get("held")
        given = given and {name: part.value for name, part in given.items()}
        return changed(model.apply(params["net"], x), given)

    if model.parts is None:
        return mj.Model(init, apply)
    body, head = model.parts
    assert model.settle is keep
    return mj.headed(held(body, inside=inside, width=WIDTH), head)


def spreads(tree):
    """All that is not learnt of a tree."""
    is_constant = lambda x: isinstance(x, mj.Constant)  # noqa: E731
    leaves = jax.tree.leaves(tree, is_leaf=is_constant)
    return [x.value for x in leaves if is_constant(x) and x.value is not None]


# `held` permutes the features of an example, not maps of them.
of_vectors = pytest.mark.parametrize(
    "name", [n for n, row in LEARNERS.items() if row.family not in (SCENES, OUTLINES)]
)


@of_vectors
def test_constants_are_closed_over(name):
    ours, theirs = (
        build(name, held(network(name), inside=inside), steps=1)
        for inside in (True, False)
    )
    meta, other = ours.init(KEY), theirs.init(KEY)
    batch = meta_batch(name, 2)
    (loss, _), found = jax.jit(mj.meta_gradient(ours))(meta, batch)
    (expected, _), wanted = jax.jit(mj.meta_gradient(theirs))(other, batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert relative(found, wanted) < 1e-6
    assert spreads(found) == []


@of_steps
def test_an_inner_loop_leaves_constants_alone(name):
    learner = build(name, held(network(name), inside=True))
    meta, episode = learner.init(KEY), one_episode(name)
    adapted = jax.jit(learner.trajectory)(meta, episode.support)
    for before, after in zip(spreads(meta), spreads(adapted), strict=True):
        for each in after:
            np.testing.assert_array_equal(each, before)
            assert each.dtype == before.dtype


OPTIMIZERS = {
    "decay": lambda: lenient(optax.adamw(1e-2, weight_decay=0.5)),
    "noise": lambda: optax.noisy_sgd(0.1, key=KEY),
    "sign": lambda: lenient(optax.lion(0.1, weight_decay=0.1)),
    "average": lambda: optax.chain(optax.sgd(0.1), parameter_average(0.5)),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_no_outer_optimizer_changes_constants(kind, relaxed):
    learner = build("maml", held(network("maml"), inside=True), steps=1)
    optimizer = OPTIMIZERS[kind]()
    step = jax.jit(mj.train_step(learner, optimizer))
    start = state = mj.init_state(learner, optimizer, KEY)
    assert spreads(state.opt_state) == []
    for _ in range(2):
        state, _ = step(state, meta_batch("maml", 2))
    for meta in (state.meta, averaged(state)):
        assert jax.tree.structure(meta) == jax.tree.structure(start.meta)
        assert relative(learnt(meta), learnt(start.meta)) > 1e-4
        for before, after in zip(spreads(start.meta), spreads(meta), strict=True):
            np.testing.assert_array_equal(before, after)


def test_training_with_constants_goes_on_after_a_stop(tmp_path):
    model = held(network("maml"), inside=True)

    def init(key):
        tree = model.init(key)
        mask = mj.Constant(jnp.array([0.0, -jnp.inf]))
        return {**tree, "body": {**tree["body"], "mask": mask}}

    learner = build("maml", model._replace(init=init), steps=1)
    fit = functools.partial(
        mj.fit, learner, optax.sgd(0.1), mj.data.sinusoid(5, 5), tasks=2, devices=1
    )
    straight = fit(steps=3)
    fit(steps=2, checkpoints=Checkpoints(tmp_path))
    resumed = fit(steps=3, checkpoints=Checkpoints(tmp_path))
    for ours, theirs in zip(*map(jax.tree.leaves, (straight, resumed)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.isinf(resumed.meta["body"]["mask"].value).any()


@pytest.mark.parametrize("leaf", [jnp.arange(2), jax.random.key(0), 3])
def test_what_no_gradient_moves_must_be_said_to_be_constant(leaf):
    model = mj.Model(
        lambda key: {"w": jnp.ones(()), "n": leaf}, lambda p, x: p["w"] * x
    )
    learner = mj.maml(model, mj.mse, optax.sgd(0.1), steps=1)
    meta, batch = learner.init(KEY), mj.Batch(jnp.ones((2, 1)), jnp.ones((2, 1)))
    message = r"\['n'\] must be a floating-point or complex array .*Constant"
    with pytest.raises(mj.InputError, match=message):
        learner.adapt(meta, batch)
    with pytest.raises(mj.InputError, match=message):
        mj.init_state(learner, optax.sgd(0.1), KEY)
