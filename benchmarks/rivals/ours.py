"""metajax: the learner, and the meta-step that `fit` takes."""

import jax
import jax.numpy as jnp
import optax

import metajax as mj
from benchmarks.rivals import textbook
from benchmarks.workloads import WAYS, Workload
from metajax.models.precision import Precision
from metajax.types import Batch, Episode


class Run(textbook.Run):
    """The learner's gradient in the textbook's frame: same update, same data."""

    def _convert(self, params):
        """The workload's names as metajax's tree."""
        if "layer0_w" in params:
            *body, head = (
                {"kernel": params[f"layer{i}_w"], "bias": params[f"layer{i}_b"]}
                for i in range(len(params) // 2)
            )
            return {"body": body, "head": head}
        blocks = [
            {
                "kernel": params[f"conv{i}_w"],
                "scale": params[f"conv{i}_scale"],
                "offset": params[f"conv{i}_offset"],
            }
            for i in range(4)
        ]
        head = {"kernel": params["head_w"], "bias": params["head_b"]}
        return {"body": blocks, "head": head}

    def _restore(self, gradient):
        body, head = gradient["body"], gradient["head"]
        if "scale" not in body[0]:
            layers = [*body, head]
            named = {f"layer{i}_w": x["kernel"] for i, x in enumerate(layers)}
            return named | {f"layer{i}_b": x["bias"] for i, x in enumerate(layers)}
        named = {"head_w": head["kernel"], "head_b": head["bias"]}
        for i, block in enumerate(body):
            named[f"conv{i}_w"] = block["kernel"]
            named[f"conv{i}_scale"] = block["scale"]
            named[f"conv{i}_offset"] = block["offset"]
        return named

    def _loop(self, params, state, episodes, n):
        """As `fit` takes them: many meta-steps in one dispatch."""

        def one(_, carry):
            params, state, _ = carry
            return self._meta_step(params, state, episodes)

        zero = jnp.zeros((), jax.tree.leaves(params)[0].dtype)
        return jax.lax.fori_loop(0, n, one, (params, state, zero))

    def compile(self) -> float:
        """Compiles the loop; seconds."""
        self._step = jax.jit(self._loop, donate_argnums=(0, 1))
        return super().compile(1)

    def steps(self, n: int) -> None:
        """Meta-steps, in one dispatch."""
        self._params, self._state, loss = self._step(
            self._params, self._state, self._episodes, n
        )
        loss.block_until_ready()

    def _differentiate(
        self,
        work: Workload,
        grad: str = "exact",
        precision: Precision = "float32",
        devices: int | None = None,
    ):
        dtype = jnp.result_type(*(x.dtype for x in self._episodes.values()))
        model, loss = mj.mlp(dtype=dtype), mj.mse
        if work.family.image is not None:
            shape, filters = work.family.image, work.family.filters
            model = mj.conv4(WAYS, filters, image_shape=shape, dtype=dtype)
            loss = mj.cross_entropy
        learner = mj.maml(
            mj.in_precision(model, precision),
            loss,
            optax.sgd(work.family.inner_rate),
            work.steps,
            grad=getattr(mj, grad),
        )
        gradient = mj.meta_gradient(
            learner, devices=devices or jax.local_device_count()
        )

        def value_and_grad(params, arrays):
            support = Batch(arrays["support_x"], arrays["support_y"])
            query = Batch(arrays["query_x"], arrays["query_y"])
            (loss, _), gradients = gradient(params, Episode(support, query))
            return loss, gradients

        return value_and_grad
