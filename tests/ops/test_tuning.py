"""Tuned forms: what they compute, that they are taken, and where they are kept."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.ops import Tuned, conv2d, linear, max_pool, taking, tune, tuning
from metajax.ops.forms import FORMS, TABLE, candidates
from metajax.ops.tuned import BY_TABLE
from tests.helpers import KEY, relative


def favouring(*forms):
    """A timer to which these forms are the fastest, the first of them most so."""

    def timer(trial):
        return float(forms.index(trial.form)) if trial.form in forms else 10.0

    return timer


def loss(params, x):
    """Of a convolution that every form can take, pooling and a dense layer."""
    kernel, head = params
    features = max_pool(jnp.tanh(conv2d(x, kernel)))
    return (linear(features.reshape(len(x), -1), head) ** 2).sum()


def adapted(params, x):
    """The loss after an inner step, of several tasks: grouped, and second order."""

    def of_task(x):
        grads = jax.grad(loss)(params, x)
        return loss(jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), x)

    return jax.vmap(of_task)(x).mean()


def problem(dtype=jnp.float32):
    keys = jax.random.split(KEY, 3)
    kernel = jax.random.normal(keys[0], (3, 3, 16, 16), dtype) / 20
    head = jax.random.normal(keys[1], (5 * 6 * 16, 3), dtype) / 20
    return (kernel, head), jax.random.normal(keys[2], (2, 4, 10, 12, 16), dtype)


ORDERS = [
    ("lax", "product", "stacked"),
    ("lax laid out", "patches by image", "window", "outer"),
    ("patches", "patches of x", "slices", "outer"),
    ("rows", "turned", "patches of y", "window"),
    ("winograd", "patches turned", "stacked"),
    ("lax patches", "window"),
]


def test_the_orders_have_every_form():
    named = {form for forms in FORMS.values() for form in forms}
    assert named == {form for order in ORDERS for form in order}


def test_what_the_table_has_is_valid():
    for operation, row in TABLE.items():
        for choices in row.values():
            assert {choice.form for choice in choices} <= set(FORMS[operation])


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order[0])
def test_tuned_forms_have_the_same_gradient(float64, order):
    args = problem(jnp.float64)
    gradient = jax.jit(jax.grad(adapted))
    table = gradient(*args)
    tuned = tune(gradient, *args, timer=favouring(*order))
    assert {form for _, form in tuned.forms} - {BY_TABLE} <= set(order)
    with taking(tuned):
        assert relative(gradient(*args), table) < 1e-12


def test_the_fastest_form_is_lowered():
    args = problem()
    gradient = jax.jit(jax.grad(adapted))
    table = gradient.lower(*args).as_text()
    tuned = tune(gradient, *args, timer=favouring("lax", "window"))
    with taking(tuned):
        text = gradient.lower(*args).as_text()
    assert "stablehlo.convolution" in text and "reduce_window" in text
    assert "stablehlo.convolution" not in table and "reduce_window" not in table
    # As before, byte for byte, without it; and where the table is the fastest.
    assert gradient.lower(*args).as_text() == table
    with taking(tune(gradient, *args, timer=favouring(BY_TABLE))):
        assert gradient.lower(*args).as_text() == table


def test_without_jit_too():
    x = jax.random.normal(KEY, (1, 4, 4, 1))
    tuned = tune(max_pool, x, timer=favouring("window"))
    with taking(tuned):
        np.testing.assert_array_equal(max_pool(x), jax.jit(max_pool)(x))


def test_each_shape_is_timed_once():
    seen = []

    def timer(trial):
        seen.append((trial.site.key, trial.form))
        return 1.0

    def twice(x, kernel):
        return conv2d(conv2d(x, kernel), kernel) + conv2d(2 * x, kernel)

    tune(twice, jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 3)), timer=timer)
    assert len(set(seen)) == len(seen) and len({key for key, _ in seen}) == 1
    # Too few channels for Winograd's tiles; "patches" is the table's own.
    assert [form for _, form in seen] == [
        BY_TABLE,
        "lax patches",
        "rows",
        "lax",
        "lax laid out",
    ]


def test_forms_of_a_geometry():
    def of(stride, dtype):
        forms = tuning.trials_of(
            partial(conv2d, stride=stride),
            jax.ShapeDtypeStruct((2, 20, 20, 16), dtype),
            jax.ShapeDtypeStruct((3, 3, 16, 16), dtype),
        )
        (trials,) = forms.values()
        site = trials[0].site
        return candidates(site.operation, site.sizes, site.dtype)

    assert of(1, jnp.float32) == list(FORMS["convolution y"])
    assert of(2, jnp.float32) == ["patches", "lax patches", "lax", "lax laid out"]
    assert "winograd" not in of(1, jnp.bfloat16)  # it would round before the product


def test_a_tie_is_the_tables():
    x = jnp.ones((1, 4, 4, 1))

    def form(times):
        return tune(max_pool, x, timer=lambda t: times.get(t.form, 9.0)).forms[0][1]

    assert form({BY_TABLE: 1.04, "window": 1.0}) == BY_TABLE
    assert form({BY_TABLE: 1.06, "window": 1.0}) == "window"


@pytest.mark.parametrize(
    "failing, expected",
    [
        (["window"], "stacked"),
        ([BY_TABLE], "window"),
        ([BY_TABLE, "window", "stacked"], BY_TABLE),
    ],
)
def test_a_form_that_fails_is_left_out(failing, expected):
    def timer(trial):
        if trial.form in failing:
            raise RuntimeError("RESOURCE_EXHAUSTED")
        return {BY_TABLE: 3.0, "window": 1.0, "stacked": 2.0}[trial.form]

    tuned = tune(max_pool, jnp.ones((1, 4, 4, 1)), timer=timer)
    assert tuned.forms[0][1] == expected


def test_answers_are_kept(tmp_path):
    x = jnp.ones((1, 4, 4, 1))
    first = tune(max_pool, x, folder=tmp_path / "new", timer=favouring("window"))
    again = tune(max_pool, x, folder=tmp_path / "new", timer=favouring("stacked"))
    assert again == first and first.forms[0][1] == "window"
    other = jnp.ones((1, 6, 6, 1))
    tune(max_pool, other, folder=tmp_path / "new", timer=favouring("stacked"))
    (path,) = (tmp_path / "new").iterdir()
    assert jax.__version__ in path.name and "cpu" in path.name
    assert sorted(json.loads(path.read_text()).values()) == ["stacked", "window"]


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'{"a": "lax"', b'{"a": "no form"}', b"\xff", b"[" * 10**5]
)
def test_a_damaged_file_is_replaced(tmp_path, content):
    x = jnp.ones((1, 4, 4, 1))
    tune(max_pool, x, folder=tmp_path, timer=favouring("window"))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(content)
    tune(max_pool, x, folder=tmp_path, timer=favouring("window"))
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    tuned = tune(
        max_pool,
        jnp.ones((1, 4, 4, 1)),
        folder=tmp_path / "file",
        timer=favouring("window"),
    )
    assert tuned.forms[0][1] == "window"


def test_as_text_and_back():
    tuned = Tuned.from_forms({"b": "lax", "a": BY_TABLE})
    assert Tuned.from_text(tuned.as_text()) == tuned
    assert tuned.form("b") == "lax" and tuned.form("a") is tuned.form("c") is None
    assert hash(tuned) == hash(Tuned.from_forms({"a": BY_TABLE, "b": "lax"}))
    with pytest.raises(mj.InputError, match="expected"):
        Tuned.from_text('{"a": 1}')


def test_the_clock_times_what_it_is_given(monkeypatch):
    monkeypatch.setattr(tuning, "TURN", 0.0)
    x = jnp.ones((1, 4, 4, 1))
    (trials,) = tuning.trials_of(max_pool, x).values()
    runs = []

    def run(x):
        runs.append(x.shape)
        return trials[0].run(x)

    assert tuning.seconds(trials[0]._replace(run=run)) > 0
    assert set(runs) == {x.shape}
