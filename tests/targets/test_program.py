"""On stored texts of one function, compiled for chips: see `scanned`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from metajax.targets import product_operations, read_program
from metajax.targets.hlo import parse

STEPS, SIDE = 5, 256
ONE = 4 * SIDE**2  # bytes of a matrix


def scanned(w, xs):
    """What `tpu_scan.hlo` (v5e) and `gpu_scan.hlo` (h200) were compiled from.

    Names of files, stack frames, and the compiler's notes other than cycles and trip
    counts were taken out.
    """

    def step(w, x):
        w = w + jnp.tanh(w @ x)
        return w, w

    return jax.lax.scan(step, w, xs)


def program(name):
    return read_program((Path(__file__).parent / f"{name}.hlo").read_text())


def named(read, start):
    (line,) = [each for each in read.instructions if each.name.startswith(start)]
    return line


def test_loops_count_as_often_as_they_run():
    for name, start in (("tpu_scan", "bitcast_dynamic"), ("gpu_scan", "gemm_fusion")):
        line = named(program(name), start)
        assert line.times == STEPS and line.opcode == "fusion"
        assert line.operation == "jit(f)/while/body/closed_call/dot_general"


def test_the_cycles_of_a_tpu_are_the_compilers():
    read = program("tpu_scan")
    step = named(read, "bitcast_dynamic").cycles + named(read, "copy.15").cycles
    before = named(read, "convert.2").cycles
    assert read.cycles == STEPS * step + before > 0
    first, *_ = read.dearest(3)
    assert first.name.startswith("bitcast_dynamic")


def test_bytes_of_a_tpu_are_those_of_main_memory():
    read = program("tpu_scan")
    # xs is read once, into vector memory; w comes and goes; each step writes a row.
    scalars = 1024
    assert 0 <= read.bytes - (STEPS * ONE + 2 * ONE + STEPS * ONE) < scalars
    assert named(read, "copy-done.1").opcode == "copy"


def test_bytes_of_a_gpu_are_operands_and_results_and_slices():
    read = program("gpu_scan")
    assert read.cycles == 0
    sizes = {
        "loop_dynamic_slice_fusion": 2,
        "loop_dynamic_update_slice_fusion": 2,
        "gemm_fusion_dot": 1 + 1 + 4,
        "loop_broadcast_fusion": STEPS,
    }
    for start, matrices in sizes.items():
        scalars = named(read, start).bytes - matrices * ONE
        assert 0 <= scalars <= 8
    assert read.launches == 5 * STEPS + 3
    assert read.dearest(1)[0].name == "gemm_fusion_dot"


def test_products_are_counted_before_compilation():
    lowered = jax.jit(scanned).lower(jnp.ones((8, 8)), jnp.ones((STEPS, 8, 8)))
    assert product_operations(lowered.as_text("hlo")) == STEPS * 2 * 8**3


@pytest.mark.parametrize("groups", [1, 3])
def test_convolutions_are_counted(groups):
    def convolve(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=layout,
            feature_group_count=groups,
        )

    x, kernel = jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3 // groups, 6))
    text = jax.jit(convolve).lower(x, kernel).as_text("hlo")
    assert product_operations(text) == 2 * (2 * 4 * 4 * 6) * (3 * 3 * 3 // groups)


NESTED = """
HloModule nested

%negated (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  ROOT %negate.1 = f32[8]{0} negate(%x)
}

%small (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  ROOT %copy.1 = f32[8]{0} copy(%x)
}

%large (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %copy.2 = f32[8]{0} copy(%x)
  ROOT %called = f32[8]{0} call(%copy.2), to_apply=%negated
}

ENTRY %main (x: f32[8], p: pred[]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %p = pred[] parameter(1)
  %conditional.1 = f32[8]{0} conditional(%p, %x, %x), true_computation=%small, \
false_computation=%large
  %all-reduce-start.1 = f32[8]{0} all-reduce-start(%conditional.1), to_apply=%sum
  %all-reduce-done.1 = f32[8]{0} all-reduce-done(%all-reduce-start.1)
  %async-start.1 = ((f32[8]{0}), f32[8]{0}, u32[]) async-start(%all-reduce-done.1), \
calls=%negated
  ROOT %async-done.1 = f32[8]{0} async-done(%async-start.1)
}
"""


def test_calls_branches_and_asynchronous_operations():
    read = read_program(NESTED)
    assert [each.name for each in read.instructions] == [
        *("copy.2", "negate.1"),  # of the dearer branch
        *("all-reduce-done.1", "negate.1"),
    ]
    assert read.collectives == {"all-reduce": 1}
    assert read.bytes == 4 * 2 * 4 * 8 and read.launches == 4


def test_tiles_are_padded_and_memories_told_apart():
    text = """
ENTRY %main (x: f32[5,3]) -> f32[5,3] {
  %x = f32[5,3]{1,0:T(8,128)} parameter(0)
  %y = bf16[4,3]{0,1:T(8,128)(2,1)S(1)} convert(%x)
  ROOT %z = (s4[4]{0}, pred[2], /*index=2*/token[]) custom-call(%y, /*index=1*/%x)
}
"""
    lines = parse(text).computations["main"]
    (x,), (y,) = lines["x"].buffers, lines["y"].buffers
    assert x.bytes == 4 * 8 * 128 and x.main and x.shape == (5, 3)
    assert y.bytes == 2 * 128 * 8 and not y.main
    assert [each.bytes for each in lines["z"].buffers] == [2, 2, 0]
    assert lines["z"].operands == ("y", "x")
