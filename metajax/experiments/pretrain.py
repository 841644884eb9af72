"""Pre-training: a classifier of all training classes, of which the body is kept.

| file | what |
|---|---|
| config.json | the configuration, whole |
| data.json | the hash of every file of the data |
| metrics.jsonl | a row a dispatch |
| checkpoints/ | the newest states; forms.json, those of a run that timed them |
| backbone.npz | the body, for `--learner mtl --inner.backbone DIR` |
"""

from pathlib import Path

import optax

from metajax._files.lock import only_writer
from metajax.errors import InputError
from metajax.experiments.backbone import FILE, write_body
from metajax.experiments.config import Config
from metajax.experiments.forms import forms_of
from metajax.experiments.interrupt import Signals
from metajax.experiments.record import keep_data
from metajax.experiments.run import claim, lengthen
from metajax.experiments.tasks import Places, build_model
from metajax.learners import maml
from metajax.models import in_precision
from metajax.reporting import JsonLines, Progress
from metajax.training.averaging import averaged
from metajax.training.checkpoints import Checkpoints
from metajax.training.fitting import fit

EXAMPLES = 64  # a batch


def pretrain(
    config: Config, directory: Path, places: Places, *, devices: int | None = None
) -> None:
    """Trains in `directory`, or goes on with what is there, and saves the body.

    Raises:
      InputError: if the data have no classes that stay, or another process is training
        in the directory.
      Stopped: if a signal asked for it; the run is saved.
    """
    config.check()
    task = config.data.build(places)
    if task.joint is None:
        raise InputError(
            "these data have no classes that stay, so there is nothing to pre-train "
            "on; take Omniglot, CIFAR-FS or a folder of images"
        )
    batches = task.joint(EXAMPLES)
    model = build_model(task._replace(outputs=batches.classes), config.model)
    # No inner steps: the loss of the query set, which is the batch.
    classifier = maml(
        in_precision(model, config.precision),
        task.losses["mean"],
        optax.identity(),
        0,
        metrics=task.metric.logged(),
    )
    claim(directory, config)
    rows = JsonLines(directory / "metrics.jsonl")
    bar = Progress(config.outer.steps, 1, metrics=task.metric.logged())
    with only_writer(directory), bar as progress, Signals() as signals:
        keep_data(directory, task, ["train"])
        lengthen(directory, config)
        state = fit(
            classifier,
            config.outer.build(),
            batches,
            steps=config.outer.steps,
            tasks=1,
            seed=config.seed,
            devices=devices,
            checkpoints=Checkpoints(directory / "checkpoints"),
            observers=(rows, progress),
            stop=signals,
            forms=forms_of(config, places),
        )
        write_body(directory / FILE, averaged(state)["body"])
    print(f"a body of {batches.classes} classes is in {directory / FILE}")
