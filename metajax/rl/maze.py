"""A maze that must be explored."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.rl.environment import Environment, Transition
from metajax.types import Array

MOVES = (-1, 0), (0, 1), (1, 0), (0, -1)  # up, right, down, left


class Maze(NamedTuple):
    """One of them. A place is (row, column), `int32[2]`.

    Attributes:
      walls: `bool[size, size]`, with a border of walls.
      start: where each episode begins.
      goal: where it ends.
    """

    walls: Array
    start: Array
    goal: Array


def maze(
    size: int = 7,
    horizon: int = 50,
    *,
    view: int = 1,
    step_cost: float = 0.04,
    bump_cost: float = 0.001,
) -> Environment:
    """Mazes of which only the surroundings are seen, with a goal at an unknown place.

      r = [x' = goal] - step_cost - bump_cost · [x' = x]

    Every open place can be reached from every other, by one way only. Walls, start and
    goal stay for all episodes of a trial: an agent that remembers the way to the goal
    returns to it at once. The actions are up, right, down and left; a wall stops the
    agent. An episode ends at the goal.

    Args:
      size: rows and columns of the grid with its border, an odd number.
      horizon: the most steps of an episode. A walk through the whole maze and back to
        its start takes `(size - 1)² - 4` steps, 32 for size 7.
      view: how far the agent sees in each direction, through walls too. An observation
        is `float32[2, 2 view + 1, 2 view + 1]`: where walls are, and the goal.
      step_cost: of each step.
      bump_cost: of each step that a wall stops.

    Returns:
      An `Environment` whose task is a `Maze`.

    Raises:
      InputError: for a size that is even or below 5, or another number below 1.

    >>> environment = maze(size=5)
    >>> task = environment.sample(jax.random.key(0))
    >>> task.walls.shape, environment.reset(task, jax.random.key(1))[1].shape
    ((5, 5), (2, 3, 3))

    Source: Duan et al., "RL²", 2016, section 3.3, on a grid and with its rewards.
    """
    if check_count("size", size, least=5) % 2 == 0:
        raise InputError(f"size must be an odd number, got {size}; take {size + 1}")
    check_count("horizon", horizon, least=1)
    check_count("view", view, least=1)
    look = partial(_look, view)

    def reset(task: Maze, key: Array) -> tuple[Array, Array]:
        return task.start, look(task, task.start)

    def step(task: Maze, state: Array, action: Array, key: Array) -> Transition:
        place = move(task, state, action)
        there, stopped = (jnp.all(place == x) for x in (task.goal, state))
        # In the type of a float, since a bool has no products.
        gain = jnp.where(there, 1.0, 0.0) - jnp.where(stopped, bump_cost, 0.0)
        return Transition(place, look(task, place), gain - step_cost, there)

    return Environment(partial(_draw, size), reset, step, horizon, len(MOVES))


def move(task: Maze, place: Array, action: Array) -> Array:
    """Where an action leads from a place: the next one, or the same before a wall."""
    ahead = place + jnp.asarray(MOVES, jnp.int32)[action]
    return jnp.where(task.walls[ahead[0], ahead[1]], place, ahead)


def places(task: Maze, actions: Array) -> Array:
    """The places of an episode, which stay at the goal once it is reached.

    Args:
      task: the maze.
      actions: `int32[steps]`, of the episode.

    Returns:
      `int32[steps + 1, 2]`, from the start on.

    >>> task = maze(size=5).sample(jax.random.key(0))
    >>> places(task, jnp.array([0, 0, 0])).shape
    (4, 2)
    """

    def step(place: Array, action: Array) -> tuple[Array, Array]:
        ended = jnp.all(place == task.goal)
        place = jnp.where(ended, place, move(task, place, action))
        return place, place

    _, after = jax.lax.scan(step, task.start, actions)
    return jnp.concatenate([task.start[None], after])


def _look(view: int, task: Maze, place: Array) -> Array:
    """Walls and the goal around a place; there is nothing but walls outside."""
    width = 2 * view + 1
    walls = jnp.pad(task.walls, view, constant_values=True)
    seen = jax.lax.dynamic_slice(walls, (place[0], place[1]), (width, width))
    rows, columns = jnp.ogrid[:width, :width]
    away = task.goal - place + view
    goal = (rows == away[0]) & (columns == away[1])
    return jnp.stack([seen, goal]).astype(jnp.float32)


def _draw(size: int, key: Array) -> Maze:
    dug, ends = jax.random.split(key)
    side = (size - 1) // 2
    rooms = jax.random.choice(ends, side**2, (2,), replace=False)
    start, goal = 1 + 2 * jnp.stack(jnp.divmod(rooms, side), 1).astype(jnp.int32)
    return Maze(_dig(size, dug), start, goal)


def _dig(size: int, key: Array) -> Array:
    """Walls of a maze, dug by a walk that turns back where it has been everywhere.

    Rooms are at odd rows and columns. The walk goes from each room to a random one of
    those beside it that are still closed, and where there is none, back: twice through
    each opening.
    """
    side = (size - 1) // 2
    begin, walk = jax.random.split(key)
    first = 1 + 2 * jax.random.randint(begin, (2,), 0, side, jnp.int32)
    moves = jnp.asarray(MOVES, jnp.int32)

    def step(carry: tuple[Array, Array, Array], key: Array):
        walls, back, room = carry
        beside = jnp.clip(room[None] + 2 * moves, 0, size - 1)
        closed = walls[beside[:, 0], beside[:, 1]] & jnp.all(beside % 2 == 1, 1)
        chosen = jax.random.categorical(key, jnp.where(closed, 0.0, -jnp.inf))
        onward = jnp.any(closed)
        following = jnp.where(onward, beside[chosen], back[room[0], room[1]])
        middle = (room + following) // 2
        for place in (middle, following):
            walls = walls.at[place[0], place[1]].set(False)
        before = back[following[0], following[1]]
        back = back.at[following[0], following[1]].set(jnp.where(onward, room, before))
        return (walls, back, following), None

    closed = jnp.ones((size, size), bool).at[first[0], first[1]].set(False)
    back = jnp.zeros((size, size, 2), jnp.int32)
    keys = jax.random.split(walk, 2 * (side**2 - 1))
    (walls, *_), _ = jax.lax.scan(step, (closed, back, first), keys)
    return walls
