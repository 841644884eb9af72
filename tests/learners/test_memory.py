"""Learners that read the support set: MANN, SNAIL, neural processes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import metajax as mj
from metajax.learners.memory import start, step
from metajax.models import Tokens
from metajax.models.snail import attends, convolutions, reader
from metajax.types import Batch, Padded
from tests.helpers import KEY, lenient, lstm_by_hand, relative, squash
from tests.learners.test_table import blobs

WAYS, FEATURES, CODES = 3, 4, 2
BODY = mj.mlp(2, (FEATURES,), 1, activation=jnp.tanh, dtype=jnp.float64).parts[0]
ATTENTION = (3, 2), (4, 3)
ENCODER, DECODER = (
    mj.mlp(*sizes, activation=jnp.tanh, dtype=jnp.float64)
    for sizes in ((2, (5,), CODES), (2 + WAYS * CODES, (5,), WAYS))
)
DECAY, SCALE = 0.8, 3.0
UNTOLD = np.zeros(WAYS)

MANN = mj.mann(
    BODY,
    WAYS,
    features=FEATURES,
    memory=(5, 3),
    hidden=4,
    heads=2,
    decay=DECAY,
    scale=SCALE,
)
SNAIL = mj.snail(
    BODY,
    WAYS,
    features=FEATURES,
    length=7,
    filters=3,
    attention=ATTENTION,
)
PROCESS = mj.neural_process(ENCODER, DECODER, mj.cross_entropy, ways=WAYS)
LEARNERS = {"mann": MANN, "snail": SNAIL, "neural-process": PROCESS}
every_learner = pytest.mark.parametrize("name", LEARNERS)


def drawn(init, seed=0):
    """Parameters, drawn without a program: gates and biases are not zero."""
    draw = np.random.default_rng(seed).normal
    with jax.enable_x64(True):
        shapes = jax.eval_shape(init, KEY)
        return jax.tree.map(lambda x: jnp.array(draw(size=x.shape)), shapes)


def task(n=7, queries=3):
    """A support set of `n` examples, and queries."""
    draw = np.random.default_rng(1)
    labels = jnp.array(draw.integers(0, WAYS, n), jnp.int32)
    support = Batch(jnp.array(draw.normal(size=(n, 2))), labels)
    return support, jnp.array(draw.normal(size=(queries, 2)))


@partial(jax.jit, static_argnums=0)
def predicted(learner, meta, support, inputs):
    return learner.predict(learner.adapt(meta, support), inputs)


def each_of(weights, x):
    return x @ weights["kernel"] + weights["bias"]


def softmax(scores):
    e = np.exp(np.asarray(scores) - np.max(scores))
    return e / e.sum()


class Notebook:
    """MANN's controller and memory, one slot and one head at a time."""

    def __init__(self, network, slots, size, hidden, decay, scale):
        self.network = jax.tree.map(np.asarray, network)
        self.decay, self.scale = decay, scale
        self.heads = len(self.network["gate"])
        self.memory, self.usage = np.zeros((slots, size)), np.zeros(slots)
        self.shares = np.zeros((self.heads, slots))
        self.read = np.zeros((self.heads, size))
        self.h = self.c = np.zeros(hidden)

    def see(self, x, label=UNTOLD):
        """An example, and its label if it is told; its logits."""
        told = np.concatenate([x, label, *self.read])
        weights = self.network["controller"]
        self.h, self.c = lstm_by_hand(weights, told, self.h, self.c)
        keys = np.tanh(each_of(self.network["keys"], self.h)).reshape(self.heads, -1)
        ranked = sorted(range(len(self.usage)), key=lambda slot: self.usage[slot])
        usage = self.decay * self.usage
        for head in range(self.heads):
            self.memory[ranked[head]] = 0.0
        for head, key in enumerate(keys):
            gate = squash(self.network["gate"][head])
            for slot in range(len(usage)):
                is_least = float(slot == ranked[head])
                write = gate * self.shares[head][slot] + (1 - gate) * is_least
                self.memory[slot] += write * key
                usage[slot] += write
        for head, key in enumerate(keys):
            sizes = [np.linalg.norm(row) * np.linalg.norm(key) for row in self.memory]
            cosines = [
                row @ key / size if size > 0 else 0.0
                for row, size in zip(self.memory, sizes)
            ]
            self.shares[head] = softmax(self.scale * np.array(cosines))
            usage += self.shares[head]
            self.read[head] = sum(w * m for w, m in zip(self.shares[head], self.memory))
        self.usage = usage
        return each_of(self.network["output"], np.concatenate([self.h, *self.read]))


@pytest.mark.parametrize("shown", [1, 2, 7])
def test_mann_equals_a_loop(float64, shown):
    meta, (support, queries) = drawn(MANN.init), task()
    support = jax.tree.map(lambda x: x[:shown], support)
    adapted = jax.jit(MANN.adapt)(meta, support)
    features = np.asarray(BODY.apply(meta["body"], support.inputs))

    def read_support():
        notebook = Notebook(meta["network"], 5, 3, 4, DECAY, SCALE)
        for x, y in zip(features, np.asarray(support.targets)):
            notebook.see(x, np.eye(WAYS)[y])
        return notebook

    ours, notebook = adapted.state, read_support()
    for value, expected in (
        (ours.memory, notebook.memory),
        (ours.usage, notebook.usage),
        (ours.weights, notebook.shares),
        (ours.read, notebook.read.ravel()),
        (ours.controller.output[0], notebook.h),
        (ours.controller.cell[0], notebook.c),
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-14)
    asked = np.asarray(BODY.apply(meta["body"], queries))
    expected = [read_support().see(x) for x in asked]
    outputs = jax.jit(MANN.predict)(adapted, queries)
    np.testing.assert_allclose(outputs, expected, rtol=1e-10)


def test_the_least_used_slot_is_erased_and_written(float64):
    network = drawn(MANN.init)["network"] | {"gate": jnp.full(2, -1e3)}  # σ(α) = 0
    usage = jnp.array([3.0, 1.0, 5.0, 0.5, 2.0])
    state = start(network, 5)._replace(usage=usage, memory=jnp.full((5, 3), 7.0))
    after = step(
        network, state, jnp.ones(FEATURES), jnp.ones(WAYS), decay=DECAY, scale=SCALE
    )
    untouched = np.array([0, 2, 4])
    np.testing.assert_array_equal(after.memory[untouched], np.full((3, 3), 7.0))
    keys = np.tanh(each_of(network["keys"], after.controller.output[0])).reshape(2, 3)
    np.testing.assert_allclose(after.memory[np.array([3, 1])], keys, rtol=1e-12)


def test_padding_leaves_all_that_mann_remembers(float64):
    meta, (support, _) = drawn(MANN.init), task()
    present = np.array([False, True, True, False, False, True, True])
    x, y = (Padded(leaf, jnp.array(present)) for leaf in support)
    adapt = jax.jit(MANN.adapt)
    wide = adapt(meta, Batch(x, y)).state
    alone = adapt(meta, jax.tree.map(lambda leaf: leaf[present], support)).state
    for ours, theirs in zip(jax.tree.leaves(wide), jax.tree.leaves(alone)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_last_label_is_written_too(float64):
    meta, (support, queries) = drawn(MANN.init), task(n=2)
    before, other = (
        support._replace(targets=support.targets.at[-1].set(y)) for y in (0, 1)
    )
    adapt = jax.jit(MANN.adapt)
    ours, theirs = (adapt(meta, s).state for s in (before, other))
    assert relative(ours.memory, theirs.memory) > 1e-3
    outputs = [predicted(MANN, meta, s, queries) for s in (before, other)]
    assert relative(*outputs) > 1e-3


def test_manns_gradient_is_that_of_finite_differences(float64):
    support, queries = task(n=5)
    targets = jnp.arange(len(queries), dtype=jnp.int32) % WAYS
    meta = jax.tree.map(lambda x: 0.5 * x, drawn(MANN.init))

    @jax.jit
    def value(meta):
        return mj.cross_entropy(predicted(MANN, meta, support, queries), targets)

    check_grads(value, (meta,), order=1, modes=["fwd", "rev"], rtol=1e-5)
    # From where it starts, too: gates and biases are zero, and so is the memory.
    check_grads(value, (MANN.init(KEY),), order=1, modes=["rev"], rtol=1e-5)


def snail_by_hand(params, tokens):
    """The network of SNAIL, token by token."""
    h = np.asarray(tokens)
    first, block, second = jax.tree.map(np.asarray, params["body"])

    def attend(weights, h):
        q, k, v = (each_of(weights[name], h) for name in ("query", "key", "value"))
        taken = []
        for t in range(len(h)):
            scores = [q[t] @ k[s] / np.sqrt(q.shape[1]) for s in range(t + 1)]
            taken.append(softmax(scores) @ v[: t + 1])
        return np.concatenate([h, taken], 1)

    def convolve(weights, h, dilation):
        half, added = weights["kernel"].shape[1] // 2, []
        for t in range(len(h)):
            past = h[t - dilation] if t >= dilation else np.zeros_like(h[t])
            z = each_of(weights, np.concatenate([past, h[t]]))
            added.append(np.tanh(z[:half]) * squash(z[half:]))
        return np.concatenate([h, added], 1)

    h = attend(first, h)
    for i, weights in enumerate(block):
        h = convolve(weights, h, 2**i)
    h = attend(second, h)
    return each_of(jax.tree.map(np.asarray, params["head"]), h[-1])


@pytest.mark.parametrize("length, convolved", [(1, 0), (2, 1), (7, 3), (8, 3), (9, 4)])
def test_snail_network_equals_a_loop(float64, length, convolved):
    settings = {"filters": 3, "attention": ATTENTION, "dtype": jnp.float64}
    network = mj.models.snail_network(2, WAYS, length, **settings)
    params, x = drawn(network.init), drawn(lambda key: jnp.zeros((2, 9, 2)))
    expected = [snail_by_hand(params, tokens) for tokens in x]
    outputs = jax.jit(network.apply)(params, x)
    np.testing.assert_allclose(outputs, expected, rtol=1e-10)
    assert len(params["body"][1]) == convolved


def test_snail_asks_its_network_of_embedded_examples(float64):
    meta, (support, queries) = drawn(SNAIL.init), task()
    s, q = (np.asarray(BODY.apply(meta["body"], x)) for x in (support.inputs, queries))
    labels = np.eye(WAYS)[np.asarray(support.targets)]
    told = [np.concatenate([x, y, [0.0]]) for x, y in zip(s, labels)]
    expected = [
        snail_by_hand(
            meta["model"], [*told, np.concatenate([x, np.zeros(WAYS), [1.0]])]
        )
        for x in q
    ]
    ours = predicted(SNAIL, meta, support, queries)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


BLOCKS = {
    "attention": attends(2, 3, 2, dtype=jnp.float64),
    "convolutions": convolutions(2, 8, 3, dtype=jnp.float64),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_later_token_changes_nothing_before(float64, name):
    block = BLOCKS[name]
    params, x = drawn(block.init), drawn(lambda key: jnp.zeros((2, 8, 2)))

    @jax.jit
    def apply(x):
        return block.read(params, x, jnp.ones((2, 8), bool))[0]

    plain = apply(x)
    assert plain.shape == (2, 8, 2 + block.added)
    for t in range(8):
        other = apply(x.at[:, t].add(1.0))
        np.testing.assert_array_equal(other[:, :t], plain[:, :t])
        # It does change itself and, of what is appended, the last.
        assert relative(other[:, t], plain[:, t]) > 1e-3
        assert relative(other[:, -1, 2:], plain[:, -1, 2:]) > 1e-6


@pytest.mark.parametrize("shots", [0, 1, 7])
def test_a_context_read_once_is_asked_of_each_token_by_itself(float64, shots):
    body = reader(2, 8, filters=3, attention=ATTENTION, dtype=jnp.float64)
    params, x = drawn(body.init), drawn(lambda key: jnp.zeros((1, shots, 2)))
    asked = drawn(lambda key: jnp.zeros((1, 4, 2)), seed=1)
    head = {"kernel": jnp.eye(body.width), "bias": jnp.zeros(body.width)}
    expected = [
        snail_by_hand({"body": params, "head": head}, [*x[0], q]) for q in asked[0]
    ]
    ours = jax.jit(lambda p: body.ask(p, body.read(p, x, None), asked))(params)
    np.testing.assert_allclose(ours[0], expected, rtol=1e-10)


def test_snail_passes_over_absent_tokens(float64):
    settings = {"filters": 3, "attention": ATTENTION, "dtype": jnp.float64}
    network = mj.models.snail_network(2, WAYS, 8, **settings)
    params, x = drawn(network.init), drawn(lambda key: jnp.zeros((3, 8, 2)))
    present = np.random.default_rng(0).random((3, 8)) > 0.5
    present[:, -1] = True
    assert len(set(present.sum(1))) > 1
    ours = jax.jit(network.apply)(params, Tokens(x, jnp.array(present)))
    alone = [snail_by_hand(params, np.asarray(s)[m]) for s, m in zip(x, present)]
    np.testing.assert_allclose(ours, alone, rtol=1e-10)


def test_neural_process_equals_a_loop(float64):
    network = mj.mlp(3, (5,), CODES, dtype=jnp.float64)
    decoder = mj.mlp(2 + CODES, (5,), 2, dtype=jnp.float64)
    learner = mj.neural_process(network, decoder, mj.gaussian)
    meta, (support, queries) = drawn(learner.init), task()
    support = support._replace(targets=jnp.sin(support.inputs[:, :1]))
    codes = [
        network.apply(meta["encoder"], jnp.concatenate([x, y])[None])[0]
        for x, y in zip(*support)
    ]
    r = sum(np.asarray(c) for c in codes) / len(codes)
    adapted = learner.adapt(meta, support)
    np.testing.assert_allclose(adapted.representation, r, rtol=1e-12)
    expected = [
        decoder.apply(meta["decoder"], jnp.array([[*q, *r]]))[0]
        for q in np.asarray(queries)
    ]
    ours = learner.predict(adapted, queries)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_a_process_of_classes_has_the_mean_of_each(float64):
    meta, (support, queries) = drawn(PROCESS.init), task()
    targets = jnp.array([0, 2, 2, 0, 0, 2, 2], jnp.int32)  # none of class 1
    adapted = PROCESS.adapt(meta, support._replace(targets=targets))
    codes = np.asarray(ENCODER.apply(meta["encoder"], support.inputs))
    members = [codes[np.asarray(targets) == k] for k in range(WAYS)]
    r = [m.mean(0) if len(m) else np.zeros(CODES) for m in members]
    np.testing.assert_allclose(adapted.representation, np.ravel(r), rtol=1e-12)
    expected = DECODER.apply(
        meta["decoder"], jnp.array([[*q, *np.ravel(r)] for q in np.asarray(queries)])
    )
    np.testing.assert_allclose(PROCESS.predict(adapted, queries), expected, rtol=1e-12)


def test_a_body_embeds_a_processs_examples(float64):
    encoder, decoder = (
        mj.mlp(n, (3,), m, dtype=jnp.float64)
        for n, m in ((FEATURES, CODES), (FEATURES + WAYS * CODES, WAYS))
    )
    settings = {"loss": mj.cross_entropy, "ways": WAYS}
    plain = mj.neural_process(encoder, decoder, **settings)
    bodied = mj.neural_process(encoder, decoder, **settings, body=BODY)
    meta, (support, queries) = drawn(bodied.init), task()
    embed = lambda x: BODY.apply(meta["body"], x)  # noqa: E731
    embedded = support._replace(inputs=embed(support.inputs))
    expected = predicted(plain, meta | {"body": {}}, embedded, embed(queries))
    ours = predicted(bodied, meta, support, queries)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@every_learner
def test_whether_order_matters(float64, name):
    learner = LEARNERS[name]
    meta, (support, queries) = drawn(learner.init), task()
    plain = predicted(learner, meta, support, queries)
    turned = predicted(learner, meta, jax.tree.map(lambda x: x[::-1], support), queries)
    distance = relative(turned, plain)
    assert distance < 1e-12 if name == "neural-process" else distance > 1e-3


@every_learner
def test_queries_do_not_see_one_another(float64, name):
    learner = LEARNERS[name]
    meta, (support, queries) = drawn(learner.init), task()
    plain = predicted(learner, meta, support, queries)
    others = predicted(learner, meta, support, queries.at[1:].add(1.0))
    np.testing.assert_allclose(others[0], plain[0], rtol=1e-14)
    assert relative(others[1:], plain[1:]) > 1e-6


def trained(learner, episodes, steps=300, tasks=16):
    """The losses of a short training."""
    optimizer = lenient(optax.adam(0.01))
    step = mj.train_step(learner, optimizer)

    def one(state, key):
        state, metrics = step(state, episodes(key, tasks))
        return state, metrics["loss"]

    keys = jax.random.split(KEY, steps)
    run = jax.jit(lambda state: jax.lax.scan(one, state, keys)[1])
    return np.asarray(run(mj.init_state(learner, optimizer, KEY)))


SHUFFLED = mj.data.augmented(blobs, mj.data.shuffle_support)


def test_mann_learns():
    body = mj.mlp(2, (8,), 1).parts[0]
    losses = trained(
        mj.mann(body, 2, features=8, memory=(8, 8), hidden=16, heads=1), SHUFFLED
    )
    assert losses[:20].mean() > 0.65  # of two classes, a guess costs log 2 = 0.69
    assert losses[-20:].mean() < 0.45


def test_snail_learns():
    body = mj.mlp(2, (8,), 1).parts[0]
    sizes = {"length": 7, "filters": 8, "attention": [(8, 8), (8, 8)]}
    losses = trained(mj.snail(body, 2, features=8, **sizes), SHUFFLED)
    assert losses[:5].mean() > 0.65
    assert losses[-20:].mean() < 0.3


def test_a_neural_process_learns_waves_and_how_sure_it_is():
    encoder, decoder = mj.mlp(2, (32,), 16), mj.mlp(1 + 16, (32,), 2)
    metrics = {"mse": mj.of_mean(mj.mse)}
    learner = mj.neural_process(encoder, decoder, mj.gaussian, metrics=metrics)
    losses = trained(learner, mj.data.sinusoid(10, 10))
    assert losses[-20:].mean() < 0.7 * losses[:5].mean()


def test_bad_input_is_refused():
    with pytest.raises(mj.InputError, match="heads must be at most 3, got 4"):
        mj.mann(BODY, 2, features=4, memory=(3, 2), heads=4)
    with pytest.raises(mj.InputError, match=r"memory must be \(slots, numbers"):
        mj.mann(BODY, 2, features=4, memory=128)  # pyright: ignore
    with pytest.raises(
        mj.InputError, match="decay must be at least 0 and at most 1, got 1.5"
    ):
        mj.mann(BODY, 2, features=4, decay=1.5)
    with pytest.raises(mj.InputError, match="scale must be"):
        mj.mann(BODY, 2, features=4, scale=0.0)
    with pytest.raises(mj.InputError, match="at least one block, got"):
        mj.models.snail_network(2, 2, 5, attention=[])
    with pytest.raises(mj.InputError, match="length must be a whole number"):
        mj.models.snail_network(2, 2, 0)


def test_a_sequence_has_a_token():
    network = mj.models.snail_network(2, 2, 5, filters=1, attention=[(1, 1)])
    with pytest.raises(mj.InputError, match="at least one token, got none"):
        network.apply(network.init(KEY), jnp.zeros((3, 0, 2)))


def test_a_body_of_other_features_is_refused(float64):
    support, _ = task()
    for learner in (
        mj.mann(BODY, WAYS, features=5),
        mj.snail(BODY, WAYS, features=5, length=8),
    ):

        def ask(key, learner=learner):
            return predicted(learner, learner.init(key), support, jnp.ones((2, 2)))

        message = "built for 5 features, and the body has 4"
        with pytest.raises(mj.InputError, match=message):
            jax.eval_shape(ask, KEY)


def test_a_process_needs_the_number_of_classes(float64):
    support, _ = task()
    learner = mj.neural_process(ENCODER, DECODER, mj.cross_entropy)
    with pytest.raises(mj.InputError, match="labels .int32. need the number"):
        learner.adapt(learner.init(KEY), support)
