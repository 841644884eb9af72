"""A network of a body and a head, which some learners adapt separately."""

from functools import partial

from metajax._pytrees.keyed import keyed_as, undrawn
from metajax.checks import check_model
from metajax.errors import InputError
from metajax.models.initialise import init_named
from metajax.types import Model, Params, PyTree, keep


def headed(body: Model, head: Model) -> Model:
    """Joins a body and a head into one network.

      f_θ(x) = head_ψ(body_φ(x)),   θ = {"body": φ, "head": ψ}

    Args:
      body: from inputs to features.
      head: from features to outputs.

    Returns:
      A `Model` that knows its two parts.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from metajax.models import dense, mlp
    >>> model = headed(mlp(2, (16,), 8), dense(8, 3))
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 2))).shape
    (7, 3)
    """

    def apply(params: Params, inputs: PyTree) -> PyTree:
        features = body.forward(params["body"], inputs)
        return head.forward(params["head"], keyed_as(inputs, features))

    def inference(params: Params, inputs: PyTree) -> PyTree:
        return apply(params, undrawn(inputs))

    def settle(params: Params, inputs: PyTree) -> Params:
        first = body.settle(params["body"], inputs)
        features = body.predict(first, inputs)
        return {"body": first, "head": head.settle(params["head"], features)}

    # Where nothing settles, no features need be computed.
    nothing = body.settle is keep and head.settle is keep
    draws = body.inference or head.inference
    init = partial(init_named, {"body": body, "head": head})
    return Model(
        init,
        apply,
        parts=(body, head),
        settle=keep if nothing else settle,
        inference=draws and inference,
    )


def parts(model: Model, learner: str) -> tuple[Model, Model]:
    """The body and the head of a model, which `learner` needs.

    Raises:
      InputError: if the model is not a `Model`, or does not know its parts.
    """
    check_model(model)
    if model.parts is None:
        raise InputError(
            f"{learner} needs a model that knows its body and its head; make one with "
            "metajax.headed(body, head)"
        )
    return model.parts
