"""Walks in mazes against a walk in plain Python, and the policies that need no model."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import mazes
from lib.metrics import mazes as metrics

NORTH, EAST, SOUTH, WEST = range(4)
ROOM = np.array([[6, 12, 3, 9]], np.uint8)  # 2 x 2 cells without inner walls


def walked(policy: np.ndarray, walls: np.ndarray, start: int, goal: int) -> int:
    """Steps of one walk, -1 where it fails, by the definition: obey the walls, never come back to a cell."""
    side = round(len(walls) ** 0.5)
    been, cell = [], start
    while cell != goal:
        if cell in been or not walls[cell] >> policy[cell] & 1:
            return -1
        been.append(cell)
        cell += {NORTH: -side, EAST: 1, SOUTH: side, WEST: -1}[int(policy[cell])]
    return len(been)


def walk(made: mazes.Mazes, policy: np.ndarray) -> metrics.Walks:
    return metrics.walk(policy, made.open, made.start, made.goal)


class TestWalk:
    @given(
        side=st.integers(2, 7),
        seed=st.integers(0, 10**6),
        braid=st.sampled_from([0.0, 0.5, 1.0]),
        wrong=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    )
    @settings(max_examples=80, deadline=None)
    def test_is_the_walk_in_plain_python(self, side, seed, braid, wrong):
        """Policies that are right but for a share of cells, where they point anywhere."""
        made = mazes.make(side, 8, seed, braid=braid, min_path=2)
        rng = np.random.default_rng(seed)
        policy = metrics.bfs_policy(made.next_steps)
        policy = np.where(rng.random(policy.shape) < wrong, rng.integers(4, size=policy.shape), policy)
        found = walk(made, policy)
        assert found.steps.tolist() == list(map(walked, policy, made.open, made.start, made.goal))
        assert np.array_equal(found.reached, found.steps >= 0)

    @given(side=st.integers(2, 6), seed=st.integers(0, 10**6), wrong=st.sampled_from([0.0, 0.1, 1.0]))
    @settings(max_examples=60, deadline=None)
    def test_a_path_is_the_cells_of_the_walk(self, side, seed, wrong):
        made = mazes.make(side, 4, seed, braid=0.5, min_path=2)
        rng = np.random.default_rng(seed)
        policy = metrics.bfs_policy(made.next_steps)
        policy = np.where(rng.random(policy.shape) < wrong, rng.integers(4, size=policy.shape), policy)
        for i, steps in enumerate(walk(made, policy).steps):
            cells = metrics.path(policy[i], made.open[i], made.start[i], made.goal[i])
            assert cells[0] == made.start[i]
            assert len(set(cells)) == len(cells)
            assert (cells[-1] == made.goal[i]) == (steps >= 0)
            assert steps in (-1, len(cells) - 1)
            assert all(walked(policy[i], made.open[i], a, b) == 1 for a, b in itertools.pairwise(cells))

    def test_the_longest_possible_walk_is_finished(self):
        corridor = np.array([[2, 10, 12, 6, 10, 9, 3, 10, 8]], np.uint8)  # through all nine cells
        policy = np.array([[EAST, EAST, SOUTH, SOUTH, WEST, WEST, EAST, EAST, NORTH]])
        found = metrics.walk(policy, corridor, np.array([0]), np.array([8]))
        assert found.steps.tolist() == [8]

    def test_who_starts_at_the_goal_is_there(self):
        found = metrics.walk(np.zeros((1, 4), np.uint8), np.zeros((1, 4), np.uint8), np.array([2]), np.array([2]))
        assert (found.reached.tolist(), found.steps.tolist()) == ([True], [0])

    def test_a_circle_fails(self):
        policy = np.array([[EAST, WEST, NORTH, WEST]])
        found = metrics.walk(policy, ROOM, np.array([0]), np.array([2]))
        assert (found.reached.tolist(), found.steps.tolist()) == ([False], [-1])

    def test_reaching_the_goal_is_optimal_unless_there_are_loops(self):
        policy = np.array([[EAST, SOUTH, NORTH, WEST]])
        found = metrics.walk(policy, ROOM, np.array([0]), np.array([2]))
        assert found.steps.tolist() == [3]
        assert metrics.accuracy(found) == 1
        assert metrics.optimality(found, np.array([1])) == 0
        assert metrics.optimality(found, np.array([3])) == 1

    def test_shares_are_of_all_walks(self):
        found = metrics.Walks(np.array([True, True, False, False]), np.array([4, 6, -1, -1]))
        assert metrics.accuracy(found) == 0.5
        assert metrics.optimality(found, np.array([4, 4, 4, -1])) == 0.25

    def test_cells_count_where_the_way_gets_shorter_and_goals_do_not(self):
        next_steps = np.array([[0b0110, 0b0100, 0b0010, 0], [0, 0b1000, 0b0001, 0b1001]], np.uint8)
        policy = np.array([[EAST, WEST, EAST, NORTH], [NORTH, WEST, SOUTH, WEST]], np.uint8)
        assert metrics.cell_accuracy(policy, next_steps) == 4 / 6


class TestPolicies:
    @pytest.mark.parametrize("algorithm", mazes.ALGORITHMS)
    @pytest.mark.parametrize("braid", [0.0, 1.0])
    def test_the_distance_field_solves_every_maze_as_fast_as_can_be(self, algorithm, braid):
        made = mazes.make(12, 300, 1, algorithm, braid)
        found = walk(made, metrics.bfs_policy(made.next_steps))
        assert metrics.accuracy(found) == metrics.optimality(found, made.shortest) == 1

    def test_walls_decide(self):
        """The original's mazes had no walls: there, the ways of one maze solved every other."""
        made = mazes.make(8, 300, 1)
        policy = metrics.bfs_policy(mazes.label(np.roll(made.open, 1, axis=0), made.goal)[1])
        assert metrics.accuracy(walk(made, policy)) == 0

    @pytest.mark.parametrize("side", [7, 12, 16])
    def test_a_walker_blind_to_walls_and_a_random_one_fail(self, side):
        """In the original a walk straight to the goal scored 100 %."""
        made = mazes.make(side, 500, 42)
        assert metrics.accuracy(walk(made, metrics.manhattan_policy(side, made.goal, 0))) == 0
        assert metrics.accuracy(walk(made, metrics.random_policy(made.open, 0))) == 0

    def test_without_walls_the_blind_walker_is_optimal(self):
        side = 6
        rows, columns = np.divmod(np.arange(side * side), side)
        room = 1 * (rows > 0) + 2 * (columns < side - 1) + 4 * (rows < side - 1) + 8 * (columns > 0)
        goal = np.arange(side * side)
        start = np.random.default_rng(0).permutation(side * side)
        policy = metrics.manhattan_policy(side, goal, 0)
        found = metrics.walk(policy, np.tile(room.astype(np.uint8), (side * side, 1)), start, goal)
        apart = abs(start // side - goal // side) + abs(start % side - goal % side)
        assert np.array_equal(found.steps, apart)

    def test_ties_of_the_blind_walker_fall_both_ways_by_seed(self):
        goal = np.full(4000, 8)
        policy = metrics.manhattan_policy(3, goal, 1)
        assert abs(np.mean(policy[:, 0] == EAST) - 0.5) < 0.03
        assert set(policy[:, 0].tolist()) == {EAST, SOUTH}
        assert set(policy[:, 2].tolist()) == {SOUTH}
        assert set(policy[:, 6].tolist()) == {EAST}
        assert np.array_equal(policy, metrics.manhattan_policy(3, goal, 1))
        assert not np.array_equal(policy, metrics.manhattan_policy(3, goal, 2))

    def test_the_random_walker_takes_open_ways_equally_often(self):
        walls = np.repeat(mazes.carve(4, 1, 3, braid=1.0), 6000, axis=0)
        policy = metrics.random_policy(walls, 5)
        for cell, bits in enumerate(walls[0]):
            ways = [d for d in range(4) if bits >> d & 1]
            shares = np.bincount(policy[:, cell], minlength=4) / len(walls)
            assert np.allclose(shares, [(d in ways) / len(ways) for d in range(4)], atol=0.03)
        assert np.array_equal(policy, metrics.random_policy(walls, 5))
        assert not np.array_equal(policy, metrics.random_policy(walls, 6))

    def test_the_lowest_of_several_shortest_ways_is_taken(self):
        bits = np.array([[0, 1, 2, 4, 8, 6, 12, 15]], np.uint8)
        policy = metrics.bfs_policy(bits)
        assert policy.tolist() == [[0, 0, 1, 2, 3, 1, 2, 0]]
        assert policy.dtype == np.uint8
