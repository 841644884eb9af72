"""What matching networks' embeddings see of the support set."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.learners.lstm import lstm, lstm_init, lstm_start
from metajax.learners.support import SupportFeatures, check_features
from metajax.ops.masking import never
from metajax.ops.precision import product
from metajax.types import Array, PyTree


class Conditioning(NamedTuple):
    """How the embeddings of examples depend on the support set S.

    Attributes:
      init: `init(key, dtype) -> params`.
      support: `support(params, examples) -> features`, g(x_i, S).
      query: `query(params, features, examples) -> features`, f(x, S).
    """

    init: Callable[[Array, Any], PyTree]
    support: Callable[[PyTree, SupportFeatures], Array]
    query: Callable[[PyTree, Array, SupportFeatures], Array]


def independent() -> Conditioning:
    """Each example is embedded by itself."""
    return Conditioning(
        lambda key, dtype: {},
        lambda params, examples: examples.features,
        lambda params, features, examples: features,
    )


def full_context(features: int, steps: int = 5) -> Conditioning:
    """Full-context embeddings: g reads the support set, and f attends to it.

      g(x_i, S) = g'(x_i) + h→_i + h←_i,   of LSTMs forwards and backwards over S
      f(x, S) = h_steps:  h_k = LSTM(f'(x), [h_{k-1}, r_{k-1}]) + f'(x)
                          r_{k-1} = Σ_i softmax_i(h_{k-1}·g(x_i)) g(x_i)

    Train on shuffled support sets (`metajax.data.shuffle_support`), since g depends on
    their order.

    Args:
      features: the number of the body's features.
      steps: the number of steps of f.

    Returns:
      A `Conditioning`.

    Raises:
      InputError: if a number is not a whole one of at least 1.

    >>> context = full_context(64)

    Source: Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016,
    appendix A.
    """
    check_count("features", features, least=1)
    check_count("steps", steps, least=1)

    def init(key: Array, dtype: Any) -> PyTree:
        forward, backward, read = jax.random.split(key, 3)
        return {
            "forward": lstm_init(forward, features, features, dtype=dtype),
            "backward": lstm_init(backward, features, features, dtype=dtype),
            "read": lstm_init(read, 2 * features, features, dtype=dtype),
        }

    def support(params: PyTree, examples: SupportFeatures) -> Array:
        check_features("full_context", examples.features, features)
        forward, backward = (
            _run(params[name], examples, reverse=reverse)
            for name, reverse in (("forward", False), ("backward", True))
        )
        return examples.features + forward + backward

    def query(params: PyTree, queries: Array, examples: SupportFeatures) -> Array:
        g = examples.features
        memory = lstm_start(len(queries), features, g.dtype)
        for _ in range(steps):
            logits = product(memory.output, g.T)
            weights = jax.nn.softmax(
                jnp.where(examples.present[None] > 0, logits, never(g.dtype))
            )
            x = jnp.concatenate([queries, product(weights, g)], 1)
            memory = lstm(params["read"], x, memory)
            memory = memory._replace(output=memory.output + queries)
        return memory.output

    return Conditioning(init, support, query)


def _run(weights: PyTree, examples: SupportFeatures, *, reverse: bool) -> Array:
    """The outputs of an LSTM along the support set, which skips padding."""

    def step(memory: Any, example: tuple[Array, Array]) -> tuple[Any, Array]:
        x, present = example
        after = lstm(weights, x[None], memory)
        after = jax.tree.map(partial(jnp.where, present > 0), after, memory)
        return after, after.output[0]

    x = examples.features
    start = lstm_start(1, x.shape[1], x.dtype)
    return jax.lax.scan(step, start, (x, examples.present), reverse=reverse)[1]
