"""Mazes: what is drawn, what is seen, and what a step does."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import metajax as mj
from metajax import rl
from metajax.experiments.trial_figures import draw_maze
from metajax.rl.maze import Maze, places

KEY = jax.random.key(0)
UP, RIGHT, DOWN, LEFT = range(4)
# Rooms at (1, 1), (1, 3), (3, 1), (3, 3); there is no opening between the last two.
PICTURE = ["#####", "#...#", "#.#.#", "#.#.#", "#####"]
SMALL = Maze(
    jnp.array([[place == "#" for place in row] for row in PICTURE]),
    jnp.array([3, 1], jnp.int32),
    jnp.array([3, 3], jnp.int32),
)
WAY = [UP, UP, RIGHT, RIGHT, DOWN, DOWN]


def reachable(walls, start):
    """The open places that a flood from the start reaches."""
    reached, front = set(), [tuple(start)]
    while front:
        row, column = place = front.pop()
        if place not in reached and not walls[place]:
            reached.add(place)
            front += [(row + a, column + b) for a, b in ((0, 1), (1, 0), (0, -1))]
            front.append((row - 1, column))
    return reached


@pytest.mark.parametrize("size, different", [(5, 4), (7, 30), (11, 50)])
def test_every_open_place_is_reached_by_one_way(size, different):
    sample = jax.jit(jax.vmap(rl.maze(size).sample))
    drawn = jax.device_get(sample(jax.random.split(KEY, 50)))
    for walls, start, goal in zip(*drawn):
        reached = reachable(walls, start)
        assert tuple(goal) in reached and tuple(goal) != tuple(start)
        assert len(reached) == np.sum(~walls) == 2 * ((size - 1) // 2) ** 2 - 1
        assert walls[0].all() and walls[-1].all() and walls[:, [0, -1]].all()
    assert len({walls.tobytes() for walls in drawn.walls}) >= different


def test_starts_and_goals_are_everywhere():
    sample = jax.jit(jax.vmap(rl.maze(5).sample))
    drawn = jax.device_get(sample(jax.random.split(KEY, 200)))
    pairs = np.concatenate([drawn.start, drawn.goal], 1)
    assert len({tuple(pair) for pair in pairs.tolist()}) == 4 * 3


def play(environment, actions):
    state, _ = jax.jit(environment.reset)(SMALL, KEY)
    step = jax.jit(environment.step)
    for action in actions:
        moved = step(SMALL, state, jnp.int32(action), KEY)
        yield moved
        state = moved.state


def test_the_way_to_the_goal():
    moves = list(play(rl.maze(5), WAY))
    assert [m.state.tolist() for m in moves] == [
        [2, 1],
        [1, 1],
        [1, 2],
        [1, 3],
        [2, 3],
        [3, 3],
    ]
    assert [bool(m.done) for m in moves] == [False] * 5 + [True]
    rewards = np.array([m.reward for m in moves])
    np.testing.assert_allclose(rewards, [-0.04] * 5 + [0.96], rtol=1e-6)


def test_walls_stop_the_agent():
    environment = rl.maze(5, step_cost=0.5, bump_cost=0.25)
    right, down, left, up = play(environment, [RIGHT, DOWN, LEFT, UP])
    for moved in (right, down, left):
        assert moved.state.tolist() == [3, 1]
        assert float(moved.reward) == -0.75
    assert up.state.tolist() == [2, 1] and float(up.reward) == -0.5


def test_what_is_seen():
    *_, before, last = play(rl.maze(5), WAY[:5])
    assert before.observation[0].tolist() == [[1, 1, 1], [0, 0, 1], [1, 0, 1]]
    assert not before.observation[1].any()  # the goal is two steps away
    assert last.observation[0].tolist() == [[0, 0, 1], [1, 0, 1], [1, 0, 1]]
    assert last.observation[1].tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_beyond_the_border_there_are_walls():
    _, seen = rl.maze(5, view=3).reset(SMALL, KEY)
    walls = np.ones((7, 7))
    walls[:5, 2:] = SMALL.walls  # the start, (3, 1), is in the middle
    np.testing.assert_array_equal(seen[0], walls)
    assert seen[1].sum() == 1 and seen[1, 3, 5] == 1


def test_places_stay_at_the_goal():
    way = places(SMALL, jnp.array([*WAY, UP, UP], jnp.int32))
    moves = [m.state.tolist() for m in play(rl.maze(5), WAY)]
    assert way.tolist() == [[3, 1], *moves, [3, 3], [3, 3]]


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"size": 6}, "size must be an odd number, got 6; take 7"),
        ({"size": 3}, "size must be a whole number of at least 5, got 3"),
        ({"horizon": 0}, "horizon must be a whole number of at least 1, got 0"),
        ({"view": 0}, "view must be a whole number of at least 1, got 0"),
    ],
)
def test_errors(settings, said):
    with pytest.raises(mj.InputError) as raised:
        rl.maze(**settings)
    assert str(raised.value) == said


def test_figure():
    figure, ax = plt.subplots()
    draw_maze(ax, SMALL, places(SMALL, jnp.array(WAY, jnp.int32)))
    way, start, goal = (np.asarray(line.get_xydata()) for line in ax.lines)
    np.testing.assert_allclose(way[:, 0], [1, 1, 1, 2, 3, 3, 3], atol=0.16)
    assert start.tolist() == [[1, 3]] and goal.tolist() == [[3, 3]]
    plt.close(figure)
