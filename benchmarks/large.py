"""What an inner loop stores, and MAML beside in-context learning.

    python -m benchmarks.large memory [--repeats 3]
    python -m benchmarks.large sinusoid [--meta-steps 5000]

`memory`: the compiled meta-gradient of 4 tasks of a transformer (8 tokens of 16
features, width 64, 4 blocks, 25 examples, 20 inner steps) and of 8 tasks of a wide MLP
(784-128-128-5, 25 examples, 20 steps), in float32 on one device: temporary memory as
XLA plans it, and the median time. `sinusoid`: the query MSE on sine waves of 10 points
after as many meta-steps of 25 tasks, Adam at 1e-3, of one transformer (width 32, 2
blocks) by MAML (5 inner steps at 0.01), which sees one point at a time, and in context,
which sees them all; and of MAML's own MLP.
"""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metajax as mj
from benchmarks.settings import Count
from benchmarks.timing import timed
from metajax.learners import scale_or_offset
from metajax.types import Batch, Episode, Learner, Model

EXAMPLES, WAYS = 25, 5


@dataclass(frozen=True)
class Memory:
    """Memory and time of what an inner loop stores."""

    repeats: Count = 3
    """Timed runs of each program; the table has the median."""


@dataclass(frozen=True)
class Sinusoid:
    """MAML beside in-context learning."""

    meta_steps: Count = 5000
    """Meta-steps of a run."""
    seeds: Count = 1
    """Runs of each learner, of seeds 0, 1, ..."""


class Work(NamedTuple):
    """A network, its inputs, and how much of them."""

    model: Model
    shape: tuple[int, ...]
    tasks: int
    steps: int


def works() -> dict[str, Work]:
    """The networks whose memory is compared."""
    transformer = mj.transformer(16, WAYS, tokens=8, width=64, depth=4)
    return {
        "transformer": Work(transformer, (8, 16), tasks=4, steps=20),
        "wide MLP": Work(mj.mlp(784, (128, 128), WAYS), (784,), tasks=8, steps=20),
    }


def last_of_body_and_head(path: str) -> bool:
    """Whether an array is of the last block, or of the head."""
    return path.startswith(("['body']['blocks'][3]", "['body'][1]", "['head']"))


def choices() -> dict[str, dict[str, Any]]:
    """Settings of MAML, by name."""
    return {
        "computed again": {},
        "computed again, `reverse`": {"grad": mj.reverse},
        "`kept(reverse)`": {"grad": mj.kept(mj.reverse)},
        "`offloaded(exact)`": {"grad": mj.offloaded(mj.exact)},
        "last block and head adapt": {"adapts": last_of_body_and_head},
        "norms adapt": {"adapts": scale_or_offset},
    }


def memory(settings: Memory) -> None:
    """Prints a table for each network."""
    for name, work in works().items():
        episodes = random_episodes(work)
        meta = jax.jit(work.model.init)(jax.random.key(1))
        size = sum(x.nbytes for x in jax.tree.leaves(meta)) / 2**20
        print(f"\n{name}, parameters of {size:.2f} MiB\n")
        print("| what is stored | device MiB | host MiB | ms |\n|---|---|---|---|")
        for choice, arguments in choices().items():
            if choice == "norms adapt" and name != "transformer":
                continue
            sgd = optax.sgd(0.01)
            learner = mj.maml(
                work.model, mj.cross_entropy, sgd, work.steps, **arguments
            )
            figures = measured(learner, meta, episodes, settings.repeats)
            print(
                "|",
                " | ".join([choice, *(f"{x:.1f}" for x in figures)]),
                "|",
                flush=True,
            )


def random_episodes(work: Work) -> Episode:
    """Noise, and labels."""

    def batch(key: jax.Array) -> Batch:
        shape = (work.tasks, EXAMPLES, *work.shape)
        labels = jnp.broadcast_to(jnp.arange(EXAMPLES) % WAYS, shape[:2])
        return Batch(jax.random.normal(key, shape), labels)

    return Episode(*map(batch, jax.random.split(jax.random.key(0))))


def measured(
    learner: Learner, meta: Any, episodes: Episode, repeats: int
) -> tuple[float, float, float]:
    """Temporary MiB on the device and on the host, and milliseconds."""
    gradient = mj.meta_gradient(learner, tasks_per_chunk=None)
    compiled: Any = jax.jit(gradient).lower(meta, episodes).compile()
    planned = compiled.memory_analysis()
    run = lambda: jax.block_until_ready(compiled(meta, episodes))  # noqa: E731
    run()
    return (
        planned.temp_size_in_bytes / 2**20,
        planned.host_temp_size_in_bytes / 2**20,
        1e3 * float(np.median([timed(run) for _ in range(repeats)])),
    )


def one_token(model: Model) -> Model:
    """A model of sequences, for examples that are one token each."""
    return mj.Model(model.init, lambda params, x: model.apply(params, x[:, None]))


def sinusoid(settings: Sinusoid) -> None:
    """Prints the table."""
    sgd = optax.sgd(0.01)
    alone, pairs = (mj.transformer(n, 1, width=32, depth=2) for n in (1, 3))
    learners = {
        "MAML, MLP": mj.maml(mj.mlp(), mj.mse, sgd, 5),
        "MAML, transformer": mj.maml(one_token(alone), mj.mse, sgd, 5),
        "in context, transformer": mj.in_context(pairs, mj.mse),
    }
    episodes = mj.data.sinusoid(shots=10, queries=10)
    print("| | query MSE, 1,000 tasks | ms a meta-step |\n|---|---|---|")
    for name, learner in learners.items():
        scores, times = [], []
        for seed in range(settings.seeds):
            began = time.perf_counter()
            state = mj.fit(
                learner,
                optax.adam(1e-3),
                episodes,
                steps=settings.meta_steps,
                tasks=25,
                seed=seed,
            )
            times.append(1e3 * (time.perf_counter() - began) / settings.meta_steps)
            score = mj.evaluate(
                learner, state.meta, episodes, mj.mse, tasks=1000, seed=1234
            ).transductive
            scores.append(f"{score.mean[-1]:.3f} ± {score.interval[-1]:.3f}")
        print(f"| {name} | {', '.join(scores)} | {np.median(times):.1f} |", flush=True)


def main(settings: Memory | Sinusoid) -> None:
    """Prints what was asked for."""
    if isinstance(settings, Memory):
        memory(settings)
    else:
        sinusoid(settings)


if __name__ == "__main__":
    import sys
    from typing import Annotated

    import tyro

    from benchmarks.command import run_command

    command = (
        Annotated[Memory, tyro.conf.subcommand("memory")]
        | Annotated[Sinusoid, tyro.conf.subcommand("sinusoid")]
    )
    sys.exit(run_command(main, command, "benchmarks.large", __doc__))
