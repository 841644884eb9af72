"""The loss and the metrics of the query set, which every learner reports."""

from collections.abc import Callable, Mapping

from metajax.checks import check_episode
from metajax.errors import InputError
from metajax.losses import over_present
from metajax.types import Array, Batch, Episode, Loss, Metrics, PyTree

RESERVED = ("loss", "gradient_norm")


def query_metrics(
    predict: Callable[[PyTree, PyTree], PyTree],
    loss: Loss,
    metrics: Mapping[str, Loss] | None,
) -> Callable[[PyTree, Batch], Metrics]:
    """`measure(adapted, query) -> metrics`, the loss among them as "loss".

    Raises:
      InputError: for a metric of a name that training gives to its own.
    """
    for name in RESERVED:
        if name in (metrics or {}):
            raise InputError(
                f'metrics cannot have the name "{name}", by which training reports its '
                "own; give it another"
            )
    named = {**(metrics or {}), "loss": loss}
    measures = {name: over_present(measure) for name, measure in named.items()}

    def measure(adapted: PyTree, query: Batch) -> Metrics:
        outputs = predict(adapted, query.inputs)
        return {name: f(outputs, query.targets) for name, f in measures.items()}

    return measure


def query_loss(
    adapt: Callable[[PyTree, Batch], PyTree],
    predict: Callable[[PyTree, PyTree], PyTree],
    loss: Loss,
    metrics: Mapping[str, Loss] | None,
) -> Callable[[PyTree, Episode], tuple[Array, Metrics]]:
    """The outer loss L_query(adapt(meta, support)), and the metrics by name."""
    measure = query_metrics(predict, loss, metrics)

    def outer_loss(meta: PyTree, episode: Episode) -> tuple[Array, Metrics]:
        check_episode(episode)
        values = measure(adapt(meta, episode.support), episode.query)
        return values["loss"], values

    return outer_loss
