"""Mazes against scipy's graph routines and against enumerations of all mazes that are small enough."""

import dataclasses
import itertools
import subprocess
import sys
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from scipy.sparse import csgraph

from lib.data import mazes
from lib.data.mazes import MazeError

PINNED = {  # digests of 64 mazes each
    "dfs": "52842ed44acacab21c3ed0e18ede823a",
    "wilson": "921097f2c4f1f20304fc6d8fad0fe310",
    "kruskal": "621b2694b5fb763c95b37dc268c24fcc",
}
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # row, column of north, east, south, west

each_algorithm = pytest.mark.parametrize("algorithm", mazes.ALGORITHMS)
any_maze = {
    "side": st.integers(2, 9),
    "seed": st.integers(0, 2**63),
    "algorithm": st.sampled_from(mazes.ALGORITHMS),
    "braid": st.sampled_from([0.0, 0.3, 1.0]),
}


def ways(walls: np.ndarray) -> set[tuple[int, int]]:
    """Directed (cell, neighbour) pairs of one maze, uint8 [N]; a way out of the square is an error."""
    side = round(len(walls) ** 0.5)
    found = set()
    for cell, (direction, (down, right)) in itertools.product(range(len(walls)), enumerate(MOVES)):
        if walls[cell] >> direction & 1:
            row, column = cell // side + down, cell % side + right
            assert 0 <= row < side
            assert 0 <= column < side
            found.add((cell, row * side + column))
    return found


def graph(walls: np.ndarray) -> sparse.csr_matrix:
    rows, columns = zip(*ways(walls), strict=True)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(walls), len(walls)))


def distances(walls: np.ndarray) -> np.ndarray:
    """Steps between all pairs of cells [N, N], by scipy."""
    return csgraph.shortest_path(graph(walls), unweighted=True)


def shortening(walls: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """next_steps from a distance field `steps` [N], by its definition."""
    side = round(len(walls) ** 0.5)
    bits = np.zeros(len(walls), np.uint8)
    for cell, neighbour in ways(walls):
        if steps[neighbour] == steps[cell] - 1:
            move = neighbour // side - cell // side, neighbour % side - cell % side
            bits[cell] |= 1 << MOVES.index(move)
    return bits


@cache
def trees(side: int) -> frozenset[frozenset[tuple[int, int]]]:
    """All spanning trees of the lattice, as sets of undirected edges."""
    cells = side * side
    edges = [(c, c + 1) for c in range(cells) if (c + 1) % side] + [(c, c + side) for c in range(cells - side)]

    def joins_all(chosen: tuple[tuple[int, int], ...]) -> bool:
        rows, columns = zip(*chosen, strict=True)
        matrix = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(cells, cells))
        return csgraph.connected_components(matrix, directed=False)[0] == 1

    return frozenset(frozenset(c) for c in itertools.combinations(edges, cells - 1) if joins_all(c))


def tree(walls: np.ndarray) -> frozenset[tuple[int, int]]:
    return frozenset((a, b) for a, b in ways(walls) if a < b)


def is_depth_first(edges: frozenset[tuple[int, int]], side: int) -> bool:
    """Whether a search could have left this tree: from some root, every wall parts a cell from one on its way back."""
    cells = side * side
    walls = [(a, b) for a, b in itertools.combinations(range(cells), 2) if (a, b) not in edges]
    walls = [(a, b) for a, b in walls if b - a == side or (b - a == 1 and b % side)]
    rows, columns = zip(*edges, strict=True)
    steps = csgraph.shortest_path(
        sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(cells, cells)), directed=False
    )
    return any(all(abs(steps[root, a] - steps[root, b]) == steps[a, b] for a, b in walls) for root in range(cells))


class TestCarving:
    @given(**any_maze)
    @settings(max_examples=60, deadline=None)
    def test_walls_are_the_same_from_both_sides_and_all_cells_are_joined(self, side, seed, algorithm, braid):
        for walls in mazes.carve(side, 3, seed, algorithm, braid):
            found = ways(walls)
            assert found == {(b, a) for a, b in found}
            assert csgraph.connected_components(graph(walls))[0] == 1

    @each_algorithm
    @pytest.mark.parametrize("side", [2, 5, 30])
    def test_is_a_spanning_tree(self, algorithm, side):
        for walls in mazes.carve(side, 20, 7, algorithm):
            assert len(tree(walls)) == side * side - 1
            assert csgraph.connected_components(graph(walls))[0] == 1

    def test_there_are_192_mazes_of_side_3(self):
        assert len(trees(3)) == 192

    def test_wilson_is_uniform_over_all_mazes(self):
        counts = Counter(tree(walls) for walls in mazes.carve(3, 19_200, 11, "wilson"))
        assert set(counts) == trees(3)
        assert stats.chisquare(list(counts.values())).pvalue > 0.01

    def test_kruskal_reaches_all_mazes_but_not_equally_often(self):
        counts = Counter(tree(walls) for walls in mazes.carve(3, 19_200, 11, "kruskal"))
        assert set(counts) == trees(3)
        assert stats.chisquare(list(counts.values())).pvalue < 1e-9

    def test_depth_first_search_reaches_exactly_the_mazes_it_can(self):
        counts = Counter(tree(walls) for walls in mazes.carve(3, 19_200, 11, "dfs"))
        assert set(counts) == {edges for edges in trees(3) if is_depth_first(edges, 3)}

    def test_depth_first_search_takes_each_free_neighbour_equally_often(self):
        """On 2 x 2, start and first step fix the maze: all four trees are equally likely."""
        counts = Counter(tree(walls) for walls in mazes.carve(2, 8_000, 5, "dfs"))
        assert set(counts) == trees(2)
        assert stats.chisquare(list(counts.values())).pvalue > 0.01

    def test_corridors_of_depth_first_search_are_longest(self):
        ends = [np.mean(np.isin(mazes.carve(20, 50, 3, a), [1, 2, 4, 8])) for a in mazes.ALGORITHMS]
        assert ends[0] < 0.12 < 0.25 < ends[1] < ends[2]  # dead ends: 10, 29 and 31 % of cells

    def test_braid_opens_its_share_of_dead_ends_and_no_other_walls(self):
        def dead_ends(walls):
            return np.isin(walls, [1, 2, 4, 8]).sum()

        tight, half, full = (mazes.carve(12, 200, 3, "dfs", braid) for braid in (0.0, 0.5, 1.0))
        assert dead_ends(full) == 0
        assert 0.3 < dead_ends(half) / dead_ends(tight) < 0.5  # below 0.5: two dead ends may be joined to each other
        for loose in (half, full):
            opened = np.bitwise_count(loose & ~tight).sum() / 2
            assert np.all(tight & loose == tight)
            assert dead_ends(tight) - dead_ends(loose) <= 2 * opened <= 2 * (dead_ends(tight) - dead_ends(loose))

    @each_algorithm
    def test_a_maze_depends_on_seed_and_position_only(self, algorithm):
        few, many = (mazes.carve(6, count, 9, algorithm, 0.3) for count in (3, 50))
        assert np.array_equal(few, many[:3])
        assert len(set(mazes.hashes(many))) == 50
        assert not set(mazes.hashes(many)) & set(mazes.hashes(mazes.carve(6, 50, 10, algorithm, 0.3)))

    def test_any_integer_is_a_seed(self):
        far = [mazes.carve(6, 1, seed)[0] for seed in (-1, 2**64 - 1, 2**64, 0, np.int64(-1))]
        assert np.array_equal(far[0], far[1])
        assert np.array_equal(far[0], far[4])
        assert np.array_equal(far[2], far[3])


class TestLabels:
    @given(**any_maze, data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_distances_and_next_steps_are_scipys(self, side, seed, algorithm, braid, data):
        (walls,) = mazes.carve(side, 1, seed, algorithm, braid)
        goal = data.draw(st.integers(0, side * side - 1))
        distance, next_steps = mazes.label(walls[None], np.array([goal]))
        assert np.array_equal(distance[0], distances(walls)[goal])
        assert np.array_equal(next_steps[0], shortening(walls, distance[0]))
        assert np.flatnonzero(next_steps[0] == 0).tolist() == [goal]

    def test_loops_leave_several_shortest_ways(self):
        walls = np.array([[6, 12, 3, 9]], np.uint8)  # 2 x 2 without inner walls
        distance, next_steps = mazes.label(walls, np.array([3]))
        assert distance.tolist() == [[2, 1, 1, 0]]
        assert next_steps.tolist() == [[0b0110, 0b0100, 0b0010, 0]]

    def test_cells_without_a_way_are_told(self):
        distance, next_steps = mazes.label(np.array([[2, 8, 2, 8]], np.uint8), np.array([0]))
        assert distance.tolist() == [[0, 1, -1, -1]]
        assert next_steps.tolist() == [[0, 8, 0, 0]]

    def test_the_largest_side_fits_its_types(self):
        made = mazes.make(mazes.MAX_SIDE, 1, 0)
        assert made.distance.max() < 2**15
        assert np.array_equal(made.distance[0], csgraph.dijkstra(graph(made.open[0]), indices=made.goal[0]))

    def test_arrays_may_be_strided(self):
        made = mazes.make(5, 6, 0)
        assert np.array_equal(mazes.label(made.open[::2], made.goal[::2])[0], made.distance[::2])

    @pytest.mark.parametrize(
        ("walls", "goal", "sentence"),
        [
            (np.zeros((2, 9), np.uint8), [0], "Each of 2 mazes needs one goal, a cell from 0 to 8"),
            (np.zeros((1, 9), np.uint8), [9], "a cell from 0 to 8"),
            (np.zeros((1, 9), np.uint8), [-1], "a cell from 0 to 8"),
            (np.zeros((1, 8), np.uint8), [0], r"not uint8 \[1, 8\]"),
            (np.zeros((1, 1), np.uint8), [0], "with a side of 2 to 181"),
            (np.zeros((1, 9), np.int64), [0], "not int64"),
            (np.zeros(9, np.uint8), [0], r"not uint8 \[9\]"),
        ],
    )
    def test_what_is_no_maze_is_refused(self, walls, goal, sentence):
        with pytest.raises(MazeError, match=sentence):
            mazes.label(walls, np.array(goal))

    @pytest.mark.parametrize(("cell", "bit"), [(1, 1), (5, 2), (7, 4), (3, 8)])
    def test_a_way_out_of_the_square_is_refused(self, cell, bit):
        walls = np.zeros((1, 9), np.uint8)
        walls[0, cell] = bit
        with pytest.raises(MazeError, match="close its border"):
            mazes.label(walls, np.array([0]))


class TestEndpoints:
    @given(**any_maze)
    @settings(max_examples=40, deadline=None)
    def test_paths_are_as_long_as_asked_and_none_is_lost(self, side, seed, algorithm, braid):
        made = mazes.make(side, 4, seed, algorithm, braid)
        assert len(made) == 4
        longest = np.array([distances(walls).max() + 1 for walls in made.open])
        cells = mazes.auto_min_path(side)
        assert np.array_equal(made.shortest, made.distance[range(4), made.start])
        assert np.array_equal(made.distance, mazes.label(made.open, made.goal)[0])
        assert np.array_equal(made.next_steps, mazes.label(made.open, made.goal)[1])
        if braid == 0:
            assert np.all(made.shortest + 1 >= np.minimum(cells, longest))
            assert made.capped == (longest < cells).sum()
        assert (made.shortest + 1 < cells).sum() <= made.capped
        assert np.all(made.shortest >= 1)

    @pytest.mark.parametrize("cells", [2, 9, 14])
    def test_every_pair_far_enough_apart_can_come_up_and_no_other(self, cells):
        """One maze under many seeds: the goal is uniform among cells that have another so far away, then the start."""
        from lib.data import maze_solving

        walls = mazes.carve(4, 1, 1)
        steps = distances(walls[0])
        many = np.repeat(walls, 20_000, axis=0)
        draws = np.random.default_rng(cells).integers(2**64, size=(2, len(many)), dtype=np.uint64)
        goal, start, *_ = maze_solving.endpoints(many, 4, cells - 1, *draws)
        pairs = np.argwhere(steps >= cells - 1)
        goals = Counter(pairs[:, 0].tolist())
        expected = [len(many) / len(goals) / goals[goal] for goal, _ in pairs]
        seen = Counter(zip(goal.tolist(), start.tolist(), strict=True))
        assert set(seen) == set(map(tuple, pairs.tolist()))
        assert stats.chisquare([seen[pair] for pair in map(tuple, pairs.tolist())], expected).pvalue > 0.01

    def test_goal_and_start_are_drawn_apart(self):
        """On 2 x 2 with neighbours allowed, all twelve ordered pairs are equally likely."""
        made = mazes.make(2, 12_000, 3, min_path=2)
        pairs = Counter(zip(made.goal.tolist(), made.start.tolist(), strict=True))
        assert len(pairs) == 12
        assert stats.chisquare(list(pairs.values())).pvalue > 0.01

    def test_auto_is_the_plans_formula_in_cells(self):
        assert [mazes.auto_min_path(side) for side in (8, 12, 16, 20, 30)] == [25, 57, 102, 160, 360]
        assert all(mazes.auto_min_path(side) == max(2, int(0.4 * side**2)) for side in range(2, mazes.MAX_SIDE + 1))

    def test_auto_counts_the_mazes_without_so_long_a_path(self):
        made = mazes.make(8, 300, 1, "wilson")
        assert 0 < made.capped < 300
        assert (made.shortest + 1 < 25).sum() == made.capped

    def test_a_number_is_honoured(self):
        made = mazes.make(8, 300, 1, min_path=20)
        assert made.shortest.min() + 1 == 20
        assert made.capped == 0
        assert np.array_equal(made.open, mazes.make(8, 300, 1).open), "mazes must not depend on min_path"

    def test_a_number_that_some_mazes_cannot_have_says_what_they_all_have(self):
        with pytest.raises(
            MazeError, match=r"of 300 mazes of side 8 have no path of 40 cells: choose a min_path"
        ) as no:
            mazes.make(8, 300, 1, min_path=40)
        words = str(no.value).split()
        most = int(words[words.index("most") + 1].rstrip(","))
        longest = [distances(walls).max() + 1 for walls in mazes.carve(8, 300, 1)]
        assert int(words[0]) == sum(cells < 40 for cells in longest)
        assert most == min(longest)
        assert len(mazes.make(8, 300, 1, min_path=most)) == 300


class TestSets:
    @each_algorithm
    def test_test_mazes_share_none_with_training(self, algorithm):
        train = mazes.make(4, 400, 42, algorithm)
        clash = mazes.make(4, 300, 10042, algorithm)
        test = mazes.make(4, 300, 10042, algorithm, exclude=mazes.hashes(train.open))
        known = set(mazes.hashes(train.open))
        same = np.array([name not in known for name in mazes.hashes(clash.open)])
        assert not same.all(), "nothing was there to be replaced"
        assert not known & set(mazes.hashes(test.open))
        assert len(test) == 300
        assert np.array_equal(test.open[same], clash.open[same])
        fewer = mazes.make(4, 100, 10042, algorithm, exclude=mazes.hashes(train.open))
        assert np.array_equal(fewer.open, test.open[:100])
        assert len(set(mazes.hashes(test.open[~same]))) > 0.9 * (~same).sum(), "further streams repeat each other"

    def test_a_side_that_runs_out_of_mazes_says_so(self):
        known = set(mazes.hashes(mazes.carve(2, 100, 0)))
        assert len(known) == 4
        (left,) = known - set(sorted(known)[:3])
        assert set(mazes.hashes(mazes.make(2, 50, 1, exclude=sorted(known)[:3]).open)) == {left}
        with pytest.raises(MazeError, match="No maze of side 2 outside the 4 excluded ones was found"):
            mazes.make(2, 50, 1, exclude=known)

    def test_the_hash_is_of_the_maze_not_of_its_endpoints(self):
        one, other = mazes.make(6, 20, 3, min_path=2), mazes.make(6, 20, 3, min_path=12)
        assert mazes.hashes(one.open) == mazes.hashes(other.open)
        changed = one.open.copy()
        changed[7, 3] ^= 1
        assert [a == b for a, b in zip(mazes.hashes(one.open), mazes.hashes(changed), strict=True)].index(False) == 7

    def test_the_digest_is_of_everything_a_model_is_given(self):
        made = mazes.make(6, 20, 3)
        assert mazes.digest(made) == mazes.digest(mazes.make(6, 20, 3))
        others = [
            mazes.make(6, 19, 3),
            dataclasses.replace(made, side=5),
            dataclasses.replace(made, open=made.open[::-1]),
            dataclasses.replace(made, goal=made.goal[::-1]),
            dataclasses.replace(made, start=made.start[::-1]),
        ]
        assert len({mazes.digest(m) for m in [made, *others]}) == 6

    def test_mazes_are_the_same_on_every_machine_and_in_every_version(self):
        """A change here means that runs made before it saw other mazes."""
        assert {name: mazes.digest(mazes.make(9, 64, 42, name, 0.25)) for name in mazes.ALGORITHMS} == PINNED

    def test_no_mazes_are_an_empty_set(self):
        made = mazes.make(5, 0, 1)
        assert len(made) == 0
        assert made.open.shape == (0, 25)
        assert mazes.variants(made.open, 0)[1].shape == (0,)


class TestVariants:
    @given(side=st.integers(2, 8), seed=st.integers(0, 2**63))
    @settings(max_examples=40, deadline=None)
    def test_each_is_the_maze_under_a_symmetry(self, side, seed):
        """Coordinates are mapped by the symmetry's matrix; ways must connect the images, nothing else."""
        walls = mazes.carve(side, 8, seed)
        changed, _ = mazes.variants(walls, seed)
        for old, new in zip(walls, changed, strict=True):
            assert ways(new) in [
                {(image[a], image[b]) for a, b in ways(old)}
                for image in (cells_under(kind, side) for kind in itertools.product((False, True), repeat=3))
            ]

    def test_an_orbit_is_every_maze_under_all_eight(self):
        walls = mazes.carve(5, 6, 1)
        images = mazes.orbit(walls).reshape(8, 6, 25)
        for old, new in zip(walls, images.swapaxes(0, 1), strict=True):
            maps = [cells_under(kind, 5) for kind in itertools.product((False, True), repeat=3)]
            expected = {frozenset((image[a], image[b]) for a, b in ways(old)) for image in maps}
            assert {frozenset(ways(image)) for image in new} == expected
            assert len(expected) == 8

    def test_all_eight_and_all_goals_are_equally_frequent(self):
        (maze,) = mazes.carve(5, 1, 2)
        changed, goal = mazes.variants(np.repeat(maze[None], 8000, axis=0), 3)
        kinds = Counter(mazes.hashes(changed))
        assert len(kinds) == 8
        assert stats.chisquare(list(kinds.values())).pvalue > 0.01
        assert stats.chisquare(np.bincount(goal, minlength=25)).pvalue > 0.01
        by_kind = [np.bincount(goal[np.all(changed == walls, axis=1)] // 5) for walls in np.unique(changed, axis=0)]
        assert stats.chi2_contingency(by_kind).pvalue > 0.01, "the goal must not follow from the symmetry"

    def test_distances_do_not_change_under_a_symmetry(self):
        made = mazes.make(7, 200, 5)
        changed, goal = mazes.variants(made.open, 1)
        profile = np.sort(mazes.label(changed, goal)[0], axis=1)
        known = [{tuple(np.sort(row)) for row in distances(walls)} for walls in made.open[:40]]
        assert all(tuple(profile[i]) in known[i] for i in range(40))

    def test_depends_on_seed_and_position_only(self):
        walls = mazes.carve(6, 50, 1)
        changed, goal = mazes.variants(walls, 4)
        fewer, fewer_goals = mazes.variants(walls[:9], 4)
        assert np.array_equal(changed[:9], fewer)
        assert np.array_equal(goal[:9], fewer_goals)
        assert not np.array_equal(changed, mazes.variants(walls, 5)[0])
        assert np.array_equal(walls, mazes.carve(6, 50, 1)), "the given mazes were changed"


def cells_under(kind: tuple[bool, bool, bool], side: int) -> list[int]:
    """New number of each cell when rows are mirrored, columns are mirrored, rows and columns are exchanged."""
    new = []
    for cell in range(side * side):
        row, column = divmod(cell, side)
        row, column = side - 1 - row if kind[0] else row, side - 1 - column if kind[1] else column
        new.append(column * side + row if kind[2] else row * side + column)
    return new


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"side": 1}, "side of 2 to 181 cells, not 1"),
        ({"side": 182}, "side of 2 to 181 cells, not 182"),
        ({"count": -1}, "-1 mazes cannot be made"),
        ({"algorithm": "Wilsons"}, "did you mean 'wilson'"),
        ({"algorithm": "prim"}, "no maze algorithm 'prim' .of dfs, wilson, kruskal."),
        ({"braid": 1.1}, "braid is the probability .* not 1.1"),
        ({"braid": -0.1}, "not -0.1"),
        ({"braid": float("nan")}, "not nan"),
        ({"min_path": 1}, "2 to 25 cells, not min_path 1"),
        ({"min_path": 26}, "2 to 25 cells, not min_path 26"),
        ({"min_path": "long"}, "not 'long'"),
    ],
)
def test_what_no_maze_can_have_is_refused_at_once_in_one_sentence(asked, sentence):
    with pytest.raises(MazeError, match=sentence) as refusal:
        mazes.make(**{"side": 5, "count": 3, "seed": 0} | asked)
    assert "\n" not in str(refusal.value)


def test_checking_compiles_nothing():
    code = "import sys; from lib.data import mazes; mazes.check(16, 10, 'dfs', 0.0, 'auto'); mazes.auto_min_path(16)"
    done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit('numba' in sys.modules)"], check=False)
    assert done.returncode == 0
