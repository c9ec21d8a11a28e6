"""A tree of entropy-adaptive branching as it grew: a box per token, coloured by how unsure the model was behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from lib.figures import style
from lib.tour.tree import Node, Path, Tree

COLOURS, SCALE = colormaps["YlOrBr"], Normalize(0, 0.35)  # a share of ln |V|; the laws drawn here stay below
UNSURE, SURE, UNASKED = "#7f2704", "0.75", "white"
COLUMN, HEIGHT = 0.57, 5.0  # inches of a token, and of every picture: a slider should not move what is below it
FEWEST = 8  # rows that share the height at least
Text = Callable[[int], str]


def picture(tree: Tree, text: Text) -> Figure:
    """The tree above, and below it the entropy at every node against the threshold; `text` names a token."""
    rows = dict(_rows(tree, (), [0]))
    depth, lines = max(map(len, tree.nodes)), max(FEWEST, int(max(rows.values())) + 1)
    figure, (above, below) = style.new(
        COLUMN * (depth + 1.8), HEIGHT, rows=2, sharex=True, gridspec_kw={"height_ratios": [3, 1]}
    )
    for node in tree.nodes.values():
        _edge(above, node, rows)
        _box(above, node, rows[node.path], tree, text)
    for path in tree.cut:
        above.text(len(path) + 0.42, rows[path], "✂", fontsize=8, color=UNSURE, ha="center", va="center")
    spare = (lines - max(rows.values()) - 1) / 2
    above.set(xlim=(-0.7, depth + 0.6), ylim=(max(rows.values()) + spare + 0.6, -spare - 0.6))
    above.set_axis_off()
    above.set_title(_title(tree), loc="left")
    _entropies(below, tree)
    return figure


def _title(tree: Tree) -> str:
    cut = f", {tree.pruned} pruned" if tree.pruned else ""
    return (
        f"threshold {tree.threshold:g}: unsure at {len(tree.unsure)} nodes, {len(tree.samples)} paths{cut}; "
        f"{tree.token_forwards} tokens through the model, {tree.separately} if each path were decoded alone"
    )


def _rows(tree: Tree, path: Path, used: list[int]) -> Iterator[tuple[Path, float]]:
    """Height of every node below `path`: leaves one under another, others in the middle of their children."""
    below: dict[Path, float] = {}
    children = tree.children(path)
    for child in children:
        below |= dict(_rows(tree, child, used))
    if children:
        own = (below[children[0]] + below[children[-1]]) / 2
    else:
        own, used[0] = used[0], used[0] + 1
    yield path, own
    yield from below.items()


def _edge(ax: Axes, node: Node, rows: dict[Path, float]) -> None:
    """A curve from the parent, wider the likelier the token was."""
    if not node.path:
        return
    x, y, before = len(node.path), rows[node.path], rows[node.path[:-1]]
    curve = Curve([(x - 1, before), (x - 0.5, before), (x - 0.5, y), (x, y)], [1, 4, 4, 4])
    ax.add_patch(PathPatch(curve, fill=False, ec="0.6", lw=0.4 + 2.6 * node.probability, zorder=1))


def _box(ax: Axes, node: Node, row: float, tree: Tree, text: Text) -> None:
    unsure = node.entropy is not None and node.entropy >= tree.threshold
    face = UNASKED if node.entropy is None else COLOURS(SCALE(node.entropy))
    dark = node.entropy is not None and SCALE(node.entropy) > 0.6
    ax.text(
        len(node.path), row, text(node.path[-1]) if node.path else "prompt",
        ha="center", va="center", fontsize=6.5, color="white" if dark else "black", zorder=3,
        bbox={"boxstyle": "round,pad=0.28", "fc": face, "ec": UNSURE if unsure else SURE, "lw": 1.4 if unsure else 0.6},
    )  # fmt: skip


def _entropies(ax: Axes, tree: Tree) -> None:
    asked = [node for node in tree.nodes.values() if node.entropy is not None]
    shares = [node.entropy for node in asked]
    edges = [UNSURE if share >= tree.threshold else SURE for share in shares]
    ax.scatter(
        [len(n.path) for n in asked], shares, c=shares, cmap=COLOURS, norm=SCALE, edgecolors=edges, s=22, zorder=3
    )
    ax.axhline(tree.threshold, color=UNSURE, lw=0.9, ls="--")
    ax.text(0.998, tree.threshold, "branches above", transform=ax.get_yaxis_transform(), color=UNSURE, fontsize=6.5,
            ha="right", va="bottom")  # fmt: skip
    ax.set(ylim=(-0.012, SCALE.vmax), xlabel="tokens behind the prompt", ylabel="entropy / ln |V|")
    ax.set_xticks(range(max(map(len, tree.nodes)) + 1))
