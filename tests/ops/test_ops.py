"""Each operation against lax, in value, gradient and second derivative."""

import functools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.test_util import check_grads

import metajax as mj
from metajax.ops import (
    batch_norm,
    bilinear,
    conv2d,
    conv_general_dilated,
    correlation,
    forms,
    linear,
    max_pool,
)
from metajax.ops.forms import FORMS
from metajax.ops.normalisation import batch_moments
from tests.helpers import KEY, relative


def lax_conv(x, kernel, stride):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=numbers
    )


def lax_pool(x):
    window = (1, 2, 2, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 7, 6, 3), (1, 4, 4, 1), (3, 1, 2, 2)])
@pytest.mark.parametrize("window", [(3, 3), (1, 1), (2, 5)])
def test_convolution_equals_lax(float64, stride, shape, window):
    x = jax.random.normal(KEY, shape, jnp.float64)
    kernel = jax.random.normal(KEY, (*window, shape[-1], 4), jnp.float64)
    ours, theirs = conv2d(x, kernel, stride=stride), lax_conv(x, kernel, stride)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_convolution_derivatives_under_vmap(float64, stride, axes):
    x = jax.random.normal(KEY, (3, 2, 5, 4, 2), jnp.float64)
    kernel = jax.random.normal(KEY, (3, 3, 3, 2, 2), jnp.float64)
    x, kernel = x[0] if axes[0] is None else x, kernel[0] if axes[1] is None else kernel

    def second(conv):
        value = lambda x, k: jnp.sum(jnp.sin(conv(x, k)))  # noqa: E731
        gradient = jax.grad(value, (0, 1))

        def norm(x, k):
            return sum(jnp.sum(jnp.cos(g)) for g in gradient(x, k))

        both = lambda x, k: (gradient(x, k), jax.grad(norm, (0, 1))(x, k))  # noqa: E731
        return jax.jit(jax.vmap(both, axes))(x, kernel)

    ours = second(lambda x, k: conv2d(x, k, stride=stride))
    theirs = second(lambda x, k: lax_conv(x, k, stride))
    assert relative(ours, theirs) < 1e-12


GEOMETRIES = [
    dict(padding="VALID"),
    dict(padding=((2, 0), (1, 3))),
    dict(padding=((2, 0), (1, 3)), stride=(2, 1)),
    dict(dilation=(2, 1)),
    dict(padding="VALID", stride=2, dilation=2),
]


@pytest.fixture
def anew(monkeypatch):
    """Lets programs be traced from then on, and again after the test."""

    def forget():
        jax.clear_caches()
        correlation.product.cache_clear()

    yield forget
    monkeypatch.undo()
    forget()


@pytest.fixture
def in_blocks(monkeypatch, anew):
    """Sets the size of blocks."""

    def set_to(size):
        monkeypatch.setattr(bilinear, "BLOCK_BYTES", size)
        anew()

    return set_to


@pytest.fixture
def take(monkeypatch, anew):
    """Has this CPU take a form, of whatever backend it is."""

    def as_form(**named):
        for operation, form in named.items():
            row = {**forms.TABLE[operation], "cpu": (forms.Choice(form, ""),)}
            monkeypatch.setitem(forms.TABLE, operation, row)
        anew()

    return as_form


# The forms of each map that take any geometry, and those that need stride 1.
ANY = [("y", form) for form in ("patches", "lax patches", "lax", "lax laid out")]
ANY += [("x", form) for form in ("patches", "lax")]
ANY += [("w", form) for form in ("patches turned", "patches of x", "patches by image")]
ANY += [("w", form) for form in ("lax patches", "lax")]
DENSE = [("y", "rows"), ("x", "turned"), ("x", "lax laid out"), ("w", "patches of y")]
TILED = [("y", "winograd"), ("w", "winograd")]
ALL = [*ANY, *DENSE, *TILED]


def test_every_form_is_tested():
    operations = {name: f"convolution {name}" for name in "yxw"}
    named = [(name, form) for name in operations for form in FORMS[operations[name]]]
    assert sorted(ALL) == sorted(named)
    assert forms.TABLE.keys() == FORMS.keys()


@pytest.mark.parametrize("blocks", [1, 9000, 2**40])  # of 1, of some and a rest, one
@pytest.mark.parametrize("settings", GEOMETRIES, ids=str)
def test_convolution_in_blocks(float64, in_blocks, settings, blocks):
    in_blocks(blocks)
    convolution_equals_lax_to_second_order(settings)


@pytest.mark.parametrize(
    "form, settings",
    [(form, settings) for form in ANY for settings in GEOMETRIES]
    + [(form, s) for form in DENSE for s in GEOMETRIES if "stride" not in s]
    + [(form, s) for form in TILED for s in GEOMETRIES if set(s) == {"padding"}],
    ids=str,
)
def test_convolution_in_every_form(float64, take, settings, form):
    take(**{f"convolution {form[0]}": form[1]})
    convolution_equals_lax_to_second_order(settings)


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_convolution_as_other_backends_have_it(float64, monkeypatch, anew, backend):
    for operation, row in forms.TABLE.items():
        monkeypatch.setitem(forms.TABLE, operation, {**row, "cpu": row[backend]})
    anew()
    for settings in ({}, dict(stride=2)):
        convolution_equals_lax_to_second_order(settings, (0, 0))


TWO_TASKS = 2 * 5 * 4 * 72 * 27  # bytes: so that 5 are two blocks of two and a rest


@pytest.mark.parametrize(
    "form, axes, blocks",
    [(form, (0, 0), TWO_TASKS) for form in ALL]
    + [
        (("y", "patches"), axes, blocks)
        for axes, blocks in (
            ((0, 0), 1),
            ((0, 0), 2**40),
            ((0, None), TWO_TASKS),
            ((None, 0), TWO_TASKS),
        )
    ],
    ids=str,
)
def test_convolution_under_vmap_in_every_form(
    float64, take, in_blocks, form, axes, blocks
):
    take(**{f"convolution {form[0]}": form[1]})
    in_blocks(blocks)
    convolution_equals_lax_to_second_order({}, axes)


def test_convolution_under_two_vmaps(float64):
    x = jax.random.normal(KEY, (2, 3, 1, 5, 5, 2), jnp.float64)
    kernel = jax.random.normal(KEY, (3, 3, 3, 2, 2), jnp.float64)
    twice = lambda conv: jax.vmap(jax.vmap(conv), (0, None))  # noqa: E731
    ours, theirs = twice(conv2d), twice(lambda x, k: lax_conv(x, k, 1))
    np.testing.assert_allclose(ours(x, kernel), theirs(x, kernel), rtol=1e-10)


def test_winograd_is_nearly_as_exact_in_single_precision():
    shapes = (2, 14, 14, 32), (3, 3, 32, 32), (2, 14, 14, 32)
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=shape) for shape in shapes]

    def maps(convolve, dtype):
        x, kernel, cotangent = (jnp.asarray(a, dtype) for a in arrays)
        y, transpose = jax.vjp(convolve, x, kernel)
        return [np.asarray(a) for a in (y, *transpose(cotangent))]

    with jax.enable_x64(True):
        exact = maps(conv2d, jnp.float64)
    single = maps(conv2d, jnp.float32)
    plain = maps(lambda x, kernel: lax_conv(x, kernel, 1), jnp.float32)
    for truth, ours, theirs in zip(exact, single, plain):
        assert truth.dtype == np.float64
        error = np.abs(theirs - truth).max()
        assert np.abs(ours - truth).max() < 5 * error < 1e-2


def convolution_equals_lax_to_second_order(settings, axes=None):
    ours = to_second_order(partial(conv2d, **settings), axes)
    theirs = lax_to_second_order(tuple(settings.items()), axes)
    assert relative(ours, theirs) < 1e-12


@functools.cache
def lax_to_second_order(settings, axes):
    """The reference of a geometry, which is that of each form: in numpy, to be kept."""
    two = {
        name: (value, value) if isinstance(value, int) else value
        for name, value in settings
    }

    def convolve(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            two.get("stride", (1, 1)),
            two.get("padding", "SAME"),
            rhs_dilation=two.get("dilation", (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    return jax.tree.map(np.asarray, to_second_order(convolve, axes))


def to_second_order(conv, axes):
    """Value, gradient, and the second derivative in both mixed modes."""
    tasks = [() if axes is None or along is None else (5,) for along in axes or (0, 0)]
    random = np.random.default_rng(0)  # JAX would compile its own anew each time
    x = random.normal(size=(*tasks[0], 5, 9, 8, 3))
    kernel = random.normal(size=(*tasks[1], 3, 3, 3, 2))
    conv = conv if axes is None else jax.vmap(conv, axes)
    value = lambda x, k: jnp.sum(jnp.sin(conv(x, k)))  # noqa: E731
    gradient = jax.grad(value, (0, 1))
    norm = lambda x, k: sum(jnp.sum(g**3) for g in gradient(x, k))  # noqa: E731

    @jax.jit
    def products(x, kernel):
        forward = jax.jvp(gradient, (x, kernel), (x, kernel))
        return value(x, kernel), forward, jax.grad(norm, (0, 1))(x, kernel)

    return products(x, kernel)


def test_convolution_of_half_precision_adds_up_in_single(in_blocks):
    in_blocks(1)
    x, kernel = jnp.ones((600, 3, 3, 16)), jnp.full((3, 3, 16, 1), 1 + 2**-7)
    half = [a.astype(jnp.bfloat16) for a in (x, kernel)]
    values = jax.value_and_grad(lambda x, k: jnp.sum(conv2d(x, k)[:, 1, 1]), 1)
    (_, ours), (_, exact) = values(*half), values(x, kernel)
    assert ours.dtype == jnp.bfloat16
    # 600 ones added in bfloat16 would stay at 256.
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=2**-7)
    np.testing.assert_array_equal(
        conv2d(*half).astype(jnp.float32),
        conv2d(x, kernel).astype(jnp.bfloat16).astype(jnp.float32),
    )


def test_convolution_heeds_the_callers_precision():
    x, kernel = jnp.ones((1, 4, 4, 16)), jnp.ones((3, 3, 16, 2))

    def text(**settings):
        return jax.jit(lambda x, k: conv2d(x, k, **settings)).lower(x, kernel).as_text()

    assert "HIGHEST" in text() and "HIGHEST" not in text(precision="default")
    with jax.default_matmul_precision("tensorfloat32"):
        assert "HIGHEST" not in text() and "HIGH" in text()
        assert "HIGHEST" in text(precision="highest")


@pytest.mark.parametrize("stride", [1, 2])
def test_sums_of_half_precision_are_single(stride):
    """Each result is rounded once: it is the one that float32 would be rounded to."""
    generator = np.random.default_rng(0)
    x, kernel = (
        jnp.asarray(generator.normal(size=shape), jnp.bfloat16)
        for shape in ((2, 7, 7, 16), (3, 3, 16, 4))
    )
    conv = partial(conv2d, stride=stride)
    y, transpose = jax.vjp(conv, x, kernel)
    wide = [a.astype(jnp.float32) for a in (x, kernel)]
    exact, exact_transpose = jax.vjp(conv, *wide)
    ours = (y, *transpose(y))
    theirs = (exact, *exact_transpose(y.astype(jnp.float32)))
    for a, b in zip(ours, theirs):
        assert a.dtype == jnp.bfloat16
        # Sums in another order may fall on the other side of a rounding.
        off = a.astype(jnp.float32) != b.astype(jnp.bfloat16).astype(jnp.float32)
        assert off.mean() < 0.01


@pytest.mark.parametrize("shapes", [((0, 4, 4, 2), (3, 3, 2, 5)), ((0, 3), (3, 2))])
def test_nothing_makes_nothing(shapes):
    operation = conv2d if len(shapes[0]) == 4 else linear
    x, kernel = map(jnp.ones, shapes)
    gradient = jax.grad(lambda k: jnp.sum(operation(x, k)))(kernel)
    assert operation(x, kernel).shape == (*shapes[0][:-1], shapes[1][-1])
    np.testing.assert_array_equal(gradient, jnp.zeros(kernel.shape))


def test_arrays_of_numpy_are_taken_as_jax_takes_them():
    x, kernel = np.linspace(0.0, 1.0, 12).reshape(4, 3), jnp.ones((3, 2))
    assert x.dtype == np.float64
    np.testing.assert_allclose(linear(x, kernel), jnp.asarray(x) @ kernel)


@pytest.mark.parametrize(
    "function, shape, value",
    [(lambda x: linear(x, jnp.ones((3, 2))), (4, 3), 3.0), (max_pool, (4, 2, 2, 1), 1)],
)
def test_a_shard_map_that_checks_is_refused(function, shape, value):
    mesh = jax.make_mesh((2,), ("task",), axis_types=(jax.sharding.AxisType.Auto,))
    task = jax.P("task")

    def over(**how):
        run = jax.shard_map(function, mesh=mesh, in_specs=task, out_specs=task, **how)
        return run(jnp.ones(shape))

    np.testing.assert_array_equal(over(check_vma=False), value)
    with pytest.raises(mj.InputError, match="check_vma=False"):
        over()


def test_convolution_without_jit():
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1))
    with jax.disable_jit():
        gradient = jax.grad(lambda k: jnp.sum(conv2d(x, k)))(kernel)
    np.testing.assert_array_equal(gradient[1, 1], 16.0)


def test_what_is_not_ours_goes_to_lax():
    x, kernel = jnp.ones((1, 4, 4, 2), jnp.int8), jnp.full((3, 3, 2, 1), 9, jnp.int8)
    numbers = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))
    for a, b, padding in (
        (x, kernel, "SAME"),
        (x.astype(jnp.float32), kernel.astype(jnp.float32), ((-1, 0), (1, 1))),
    ):
        ours, theirs = (
            f(a, b, (1, 1), padding, **numbers)
            for f in (conv_general_dilated, lax.conv_general_dilated)
        )
        np.testing.assert_array_equal(ours, theirs)


def test_bad_convolutions():
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 3, 5))
    with pytest.raises(mj.InputError, match="kernel .*, got .1, 4, 4, 2. and .3, 3"):
        conv2d(x, kernel)
    with pytest.raises(mj.InputError, match="floating dtype, got float32 and bfloat"):
        conv2d(x, jnp.ones((3, 3, 2, 5), jnp.bfloat16))
    for settings in (dict(stride=0), dict(dilation=0), dict(padding=((-1, 0), (0, 0)))):
        with pytest.raises(mj.InputError, match="of at least 1|none negative"):
            conv2d(x, jnp.ones((3, 3, 2, 5)), **settings)
    for name, value in (
        ("padding", "same"),
        ("padding", 1),
        ("stride", (1, 2, 3)),
        ("stride", 1.5),
    ):
        with pytest.raises(mj.InputError, match=f"{name} must be"):
            conv2d(x, jnp.ones((3, 3, 2, 5)), **{name: value})
    with pytest.raises(mj.InputError, match="does not fit in images of 4x4"):
        conv2d(x, jnp.ones((5, 5, 2, 5)), padding="VALID")


@pytest.mark.parametrize(
    "settings",
    [{}, dict(strides=2, padding="VALID"), dict(kernel_dilation=2)]
    + [dict(feature_group_count=2), dict(input_dilation=2, padding=1)],
    ids=str,
)
def test_stands_in_for_lax_in_flax(settings):
    x = jax.random.normal(KEY, (2, 7, 6, 4))

    def outputs(**how):
        linen = nn.Conv(6, (3, 3), **settings, **how)
        module = nnx.Conv(4, 6, (3, 3), rngs=nnx.Rngs(0), **settings, **how)
        return linen.init_with_output(KEY, x)[0], module(x)

    ours, theirs = outputs(conv_general_dilated=conv_general_dilated), outputs()
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS["pooling"])
def test_pooling_gives_a_tie_to_the_first(take, form):
    take(pooling=form)
    x = jnp.array([[0.0, 1.0], [1.0, 1.0]]).reshape(1, 2, 2, 1)
    ours, theirs = (jax.grad(lambda x: jnp.sum(f(x)))(x) for f in (max_pool, lax_pool))
    np.testing.assert_array_equal(ours, theirs)
    assert ours.ravel().tolist() == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("form", FORMS["pooling"])
@pytest.mark.parametrize("place", range(4))
def test_pooling_keeps_nan(take, place, form):
    take(pooling=form)
    x = jnp.zeros(4).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
    assert jnp.isnan(max_pool(x)).all()


@pytest.mark.parametrize("form", FORMS["pooling"])
@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (2, 7, 5, 1)])
def test_pooling_equals_lax_to_second_order(float64, take, shape, form):
    take(pooling=form)
    x = jax.random.normal(KEY, (3, *shape), jnp.float64)
    x = x.at[0].set(jnp.round(x[0]))  # with ties

    def values(pool):
        pool = jax.vmap(pool)
        gradient = jax.grad(lambda x: jnp.sum(jnp.sin(pool(x))))
        norm = lambda x: jnp.sum(gradient(x) ** 3)  # noqa: E731
        forward = lambda x: jax.jvp(gradient, (x,), (x**2,))  # noqa: E731
        return jax.jit(lambda x: (pool(x), forward(x), jax.grad(norm)(x)))(x)

    assert relative(values(max_pool), values(lax_pool)) < 1e-14


def for_a_tpu(function, *shapes):
    """What a function is lowered to for a TPU."""
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).trace(*arrays).lower(lowering_platforms=("tpu",)).as_text()


def test_pooling_keeps_the_axis_of_tasks_on_a_tpu():
    gradient = jax.grad(lambda x: jnp.sum(jax.vmap(max_pool)(x) ** 2))
    text = for_a_tpu(gradient, (3, 2, 4, 4, 1))
    assert "select_and_scatter" in text and "reshape" not in text


@pytest.mark.parametrize(
    "channels, examples, patches", [(1, 17, 1), (3, 16, 1), (3, 17, 0)]
)
def test_patches_are_small_on_a_tpu(channels, examples, patches):
    def gradient(x, kernel):
        return jax.value_and_grad(lambda k: jnp.sum(conv2d(x, k) ** 2))(kernel)

    tasks = jax.vmap(gradient)
    text = for_a_tpu(tasks, (2, examples, 5, 5, channels), (2, 3, 3, channels, 4))
    forms = [
        name in text for name in ("stablehlo.dot_general", "stablehlo.convolution")
    ]
    assert forms == [bool(patches), not patches]


def test_pooling_of_nothing():
    assert max_pool(jnp.ones((0, 4, 4, 1))).shape == (0, 2, 2, 1)
    assert max_pool(jnp.ones((2, 1, 4, 1))).shape == (2, 0, 2, 1)
    with jax.disable_jit():
        assert max_pool(jnp.ones((1, 2, 2, 1))).shape == (1, 1, 1, 1)


@pytest.mark.parametrize(
    "x", [jnp.ones((4, 4, 1)), jnp.ones((1, 1, 4, 4, 1)), jnp.ones((1, 4, 4, 1), int)]
)
def test_pooling_refuses_other_arrays(x):
    with pytest.raises(mj.InputError, match="max_pool takes floats .n, height"):
        max_pool(x)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 4, 3)])
def test_batch_norm(float64, shape):
    x = 3.0 + 2.0 * jax.random.normal(KEY, shape, jnp.float64)
    scale, offset = jnp.array([1.0, 2.0, 0.5]), jnp.array([0.0, 1.0, -1.0])
    axes = tuple(range(len(shape) - 1))
    y = batch_norm(x, scale, offset, eps=0.0)
    np.testing.assert_allclose(y.mean(axes), offset, atol=1e-12)
    np.testing.assert_allclose(y.std(axes), scale)
    check_grads(jax.jit(batch_norm), (x, scale, offset), order=2, rtol=1e-4, atol=1e-4)


def test_batch_norm_of_values_far_from_zero():
    """One pass would leave no bit of this variance but for the shift."""
    x, scale, offset = jax.random.normal(KEY, (20, 6, 6, 3)), jnp.ones(3), jnp.zeros(3)
    near, far = (batch_norm(x + shift, scale, offset) for shift in (0.0, 4096.0))
    # The inputs themselves are rounded to 2⁻¹² there.
    np.testing.assert_allclose(far, near, atol=1e-3)
    flat = batch_norm(jnp.full((4, 3, 3, 3), 1e4), scale, offset)
    np.testing.assert_array_equal(flat, 0.0)
    assert batch_norm(jnp.ones((0, 3, 3, 3)), scale, offset).shape == (0, 3, 3, 3)


def test_moments_beside_values_far_off():
    """Neither an absent example nor a single outlier takes the variance's bits."""
    x = 0.01 * jax.random.normal(KEY, (50, 8, 8, 1))
    present = jnp.arange(50) > 0
    ours = batch_moments(x.at[0].set(1e3), present).variance.item()
    np.testing.assert_allclose(ours, np.var(np.float64(x[1:])), rtol=1e-5)
    spiked = x.at[0, 4, 4].set(1e3)
    ours = batch_moments(spiked).variance.item()
    np.testing.assert_allclose(ours, np.var(np.float64(spiked)), rtol=1e-5)


@pytest.mark.parametrize("form", ["outer", "product"])
def test_linear_equals_matmul_to_second_order(float64, take, form):
    take(**{"linear w": form})
    examples = 3
    x = jax.random.normal(KEY, (2, examples, 4), jnp.float64)
    kernel = jax.random.normal(KEY, (2, 4, 3), jnp.float64)

    def products(multiply):
        value = lambda x, k: jnp.sum(jnp.sin(multiply(x, k)))  # noqa: E731
        gradient = jax.grad(value, (0, 1))
        norm = lambda x, k: sum(jnp.sum(g**3) for g in gradient(x, k))  # noqa: E731
        both = lambda x, k: (gradient(x, k), jax.grad(norm, (0, 1))(x, k))  # noqa: E731
        return jax.jit(jax.vmap(both))(x, kernel)

    assert relative(products(linear), products(jnp.matmul)) < 1e-12


def test_linear_refuses_other_shapes():
    with pytest.raises(mj.InputError, match=r"\[n, inputs\]"):
        linear(jnp.ones((2, 3)), jnp.ones((4, 5)))
    with pytest.raises(mj.InputError, match="one floating dtype"):
        linear(jnp.ones((2, 3), jnp.int32), jnp.ones((3, 5)))
