"""Sinusoid regression as in the MAML paper's figure 3, as numbers.

    python -m benchmarks.sinusoid

Meta-trains the `sinusoid` preset, and beside it the paper's baseline: the same net
trained jointly on all tasks, which is MAML with 0 inner steps. Both are then adapted by
10 steps on 10 points of 1,000 held-out waves.
"""

import optax

import metajax as mj
from metajax.cli.build import build_learner, build_optimizer
from metajax.cli.presets import PRESETS
from metajax.cli.tasks import Places, build_task


def main() -> None:
    """Prints the mean squared error after 0, 1, ..., 10 steps of both."""
    config = PRESETS["sinusoid"]
    task = build_task(config.data, Places())
    # The best rate for fine-tuning is not MAML's: the baseline gets the best of these.
    rates = {"maml": [config.inner.rate], "joint": [0.001, 0.003, 0.01]}
    for name, steps in (("maml", config.inner.steps), ("joint", 0)):
        state = mj.fit(
            build_learner(config, task, steps=steps),
            build_optimizer(config),
            task.episodes("train", config.data.queries),
            steps=config.outer.steps,
            tasks=config.outer.tasks,
        )
        for rate in rates[name]:
            learner = mj.maml(
                mj.mlp(), mj.mse, optax.sgd(rate), config.evaluation.steps
            )
            episodes = task.episodes("test", config.evaluation.queries)
            found = mj.evaluate(
                learner, state.meta, episodes, mj.mse, inductive_queries=1
            )
            print(f"{name}, inner rate {rate}")
            print(mj.report(found))


if __name__ == "__main__":
    main()
