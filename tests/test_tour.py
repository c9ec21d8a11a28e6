"""The tour: what was written down against the models themselves, the pictures' artists, sliders, and the notebook."""

import json
import math
from dataclasses import replace
from functools import partial
from itertools import chain
from queue import Empty

import nbformat
import numpy as np
import pytest
import torch
import toys
from jupyter_client.manager import start_new_kernel
from matplotlib import pyplot
from matplotlib.colors import to_hex

from lib import lab, notebooks, pages, paths
from lib.generators import eab
from lib.generators.common import SamplingParams
from lib.generators.speculative import draft as draft_model
from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.decode import TorchArm
from lib.mazes.sets import make
from lib.models import maze as maze_models
from lib.models import wire
from lib.models.maze_sizes import SIZES
from lib.params import ParameterError
from lib.tour import draft, draft_picture, maze, maze_picture, message, message_picture, names, tree, tree_picture

LAW = SamplingParams(num_samples=None, max_new_tokens=6, max_paths=4, threshold=0.3, stop_ids=(3,))
HOW = Speculation("draft", 3, draft_sample_method="probabilistic")
WHAT = Decoding(max_new_tokens=12, temperature=0.9)
SECONDS = 60  # a deadline, far beyond what is needed


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return toys.tiny_model()


def token(number: int) -> str:
    return f"t{number}"


class TestTree:
    @pytest.fixture(scope="class")
    def grown(self, model):
        return tree.grow(model, toys.prompt(5), LAW, seed=1)

    def test_is_what_eab_generates(self, model, grown):
        (output,) = eab.generate(model, [toys.prompt(5)], LAW, [1])
        assert grown.samples == [tuple(sample.tokens) for sample in output.samples]
        assert grown.token_forwards == output.cost.decode_tokens
        assert grown.pruned == output.trace["pruned"] > 0

    def test_entropies_and_probabilities_are_the_models(self, model, grown):
        for node in grown.nodes.values():
            ids = torch.cat([toys.prompt(5), torch.tensor(node.path, dtype=torch.long)])
            with torch.no_grad():
                laws = (model(ids[None]).logits[0].double() / LAW.temperature).softmax(-1)
            if node.path:
                assert node.probability == pytest.approx(float(laws[-2, node.path[-1]]), abs=1e-5)
            if node.entropy is not None:
                expected = -(laws[-1] * laws[-1].log()).sum() / math.log(len(laws[-1]))
                assert node.entropy == pytest.approx(float(expected), abs=1e-5)

    def test_branches_stand_where_the_model_is_unsure(self, grown):
        unsure = {node.path for node in grown.unsure}
        split = {path for path in grown.nodes if len(grown.children(path)) > 1}
        assert split
        assert split <= unsure
        assert all(grown.nodes[path].entropy >= LAW.threshold for path in unsure)

    def test_every_end_is_a_sample_or_was_cut(self, grown):
        ends = {path for path in grown.nodes if not grown.children(path)}
        assert ends == set(grown.samples) | set(grown.cut)
        assert not set(grown.samples) & set(grown.cut)

    def test_a_threshold_above_all_entropy_gives_one_path(self, model):
        alone = tree.grow(model, toys.prompt(5), replace(LAW, threshold=1.1), seed=1)
        assert len(alone.samples) == 1
        assert not alone.unsure
        assert alone.token_forwards == alone.separately

    def test_picture_has_a_box_per_node_framed_where_it_branched(self, grown):
        above, below = tree_picture.picture(grown, token).axes
        boxes = [text for text in above.texts if text.get_bbox_patch()]
        assert len(boxes) == len(grown.nodes)
        dark = [box for box in boxes if to_hex(box.get_bbox_patch().get_edgecolor()) == tree_picture.UNSURE]
        assert len(dark) == len(grown.unsure)
        assert len(above.texts) - len(boxes) == len(grown.cut)
        assert below.lines[0].get_ydata() == [LAW.threshold] * 2

    def test_no_two_nodes_share_a_place(self, grown):
        rows = dict(tree_picture._rows(grown, (), [0]))
        assert rows.keys() == grown.nodes.keys()
        assert len({(len(path), row) for path, row in rows.items()}) == len(rows)

    def test_reading_counts(self, model, grown):
        trees = {t: tree.grow(model, toys.prompt(5), replace(LAW, threshold=t), seed=1) for t in (0.3, 1.1)}
        assert f"unsure at {len(grown.unsure)} of" in tree.reading(trees, 0.3)
        assert "at 1.1, 1 path." in tree.reading(trees, 0.3)


class TestDraft:
    @pytest.fixture(scope="class")
    def told(self, model):
        return draft.tell(model, toys.perturbed(model, 0.15), toys.prompt(6).tolist(), HOW, WHAT, seed=3)

    def tokens(self, told: draft.Story) -> list[int]:
        kept = [[*step.drafted[: step.kept], *([step.own] if step.own else [])] for step in told.steps]
        return [told.first, *(token.id for token in chain(*kept))]

    def test_is_the_answer_that_speculation_gives(self, model, told):
        drafter = draft_model.drafter(HOW, WHAT, toys.Parts(model))
        drafter._model = toys.perturbed(model, 0.15)
        (answer,) = TorchArm(model, drafter, WHAT).run([toys.prompt(6).tolist()], [3])
        assert self.tokens(told) == answer.tokens
        assert told.tokens == len(answer.tokens) == WHAT.max_new_tokens
        assert [len(step.drafted) for step in told.steps] == answer.drafted

    def test_something_was_kept_and_something_rejected(self, told):
        assert any(step.kept for step in told.steps)
        assert any(step.own and not step.bonus for step in told.steps)

    def test_probabilities_are_both_models(self, model, told):
        other = toys.perturbed(model, 0.15)
        so_far = [*toys.prompt(6).tolist(), told.first]
        for step in told.steps:
            ids = torch.tensor([[*so_far, *(token.id for token in step.drafted)]])
            with torch.no_grad():
                p, q = ((m(ids).logits[0] / WHAT.temperature).softmax(-1)[len(so_far) - 1 :] for m in (model, other))
            for place, one in enumerate(step.drafted):
                assert one.p == pytest.approx(float(p[place, one.id]), abs=1e-5)
                assert one.q == pytest.approx(float(q[place, one.id]), abs=1e-5)
            if step.own:
                assert step.own.p == pytest.approx(float(p[step.kept, step.own.id]), abs=1e-5)
                assert (step.own.q is None) == step.bonus
            so_far += [token.id for token in step.drafted[: step.kept]] + ([step.own.id] if step.own else [])

    def test_a_correction_is_a_token_that_the_target_likes_better(self, told):
        corrected = [step.own for step in told.steps if step.own and not step.bonus]
        assert all(own.p > own.q for own in corrected)

    def test_picture_colours_say_what_became_of_each(self, told):
        above, below = draft_picture.picture(told, told.surest_mistake, token).axes
        faces = [to_hex(t.get_bbox_patch().get_facecolor()) for t in above.texts if t.get_bbox_patch()]
        drafted = sum(len(step.drafted) for step in told.steps)
        assert faces.count(draft_picture.KEPT) == sum(step.kept for step in told.steps)
        assert faces.count(draft_picture.REJECTED) == sum(bool(s.own and not s.bonus) for s in told.steps)
        assert faces.count(draft_picture.OWN) == sum(bool(step.own) for step in told.steps)
        assert len(faces) == drafted + faces.count(draft_picture.OWN)
        step = told.steps[told.surest_mistake]
        heights = [bar.get_height() for bar in below.patches]
        expected = [[one.p] if one.q is None else [one.p, one.q] for one in [*step.drafted, step.own]]
        assert heights == pytest.approx(list(chain(*expected)))

    def test_an_end_in_the_middle_rejects_nothing(self, told):
        step = replace(told.steps[0], kept=1, own=None)
        assert [colour for _, colour in draft_picture._places(step)][1:] == [draft_picture.UNSEEN] * 2

    def test_reading_counts(self, told):
        assert draft.reading(told).startswith(f"12 tokens took {1 + len(told.steps)} forwards")


class TestMaze:
    @pytest.fixture(scope="class")
    def refined(self):
        """An untrained loop, as `refine` would return a trained one."""
        with pytest.MonkeyPatch.context() as patch:
            found = {}

            def untrained(params, subject, sets):
                found["model"] = maze_models.build("loop", SIZES[subject.size], params.R, params.T, 1).eval()
                return type("Trained", (), found)

            patch.setattr(maze.study, "trained", untrained)
            yield maze.refine("micro")

    def test_shows_a_larger_test_maze_at_every_refinement(self, refined):
        params = maze._cell("micro")
        larger = make(params, params.seed[0]).larger[params.maze_size + 1]
        assert refined.maze.side == params.maze_size + 1
        assert any((refined.maze.open[0] == open).all() for open in larger.open)
        assert refined.policies.shape == (2 * params.R, refined.maze.side**2)
        assert refined.tested == len(larger)

    def test_shares_are_counted_from_the_arrows(self, refined):
        cells = np.arange(refined.maze.side**2) != refined.maze.goal[0]
        for policy, share in zip(refined.policies, refined.right, strict=True):
            right = refined.maze.next_steps[0] >> policy & 1
            assert share == pytest.approx(right[cells].mean())

    def test_pictures_show_one_maze_and_all(self, refined):
        count = len(refined.policies)
        left, right = maze_picture.picture(refined, 2).axes
        assert f"refinement 2: {refined.right[1]:.0%} right" in left.get_title()
        assert right.lines[-1].get_xdata() == [2, 2]
        *panels, curves = maze_picture.strip(refined).axes
        assert len(panels) == count
        assert [line.get_ydata().tolist() for line in curves.lines] == [
            list(shares) for shares in (refined.right, refined.all_right, refined.solved)
        ]

    def test_beyond_training_is_said(self, refined):
        assert "beyond training" in maze_picture.picture(refined, refined.trained + 1).axes[0].get_title()

    def test_a_preset_without_a_loop_is_refused_in_a_sentence(self):
        with pytest.raises(ParameterError, match="trains no loop that is asked about larger mazes"):
            maze.refine("search_shape")


class TestMessage:
    @pytest.fixture(scope="class")
    def crossing(self):
        """A made-up message in every codec, as `cross` returns one."""
        array = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
        sent = {}
        for place, codec in enumerate(wire.CODECS):
            frame = wire.encode(array, codec, scales="fp16")
            sizes = wire.sizes(*array.shape, codec, scales="fp16")
            about = ("1+1=2\n#### 2", True, 0.9) if place < 6 else ("3", False, 0.1)
            sent[codec] = message.Sent(codec, frame, sizes, wire.decode(frame), *about)
        return message.Crossing("bridge", "How much is 1 + 1?", "2", array, sent, 100)

    def test_parts_are_the_whole_frame_in_its_order(self, crossing):
        for codec, sent in crossing.sent.items():
            assert sum(sent.parts.values()) == len(sent.frame)
            begin = len(sent.frame) - sent.parts["checksum"] - sent.parts["anchor"]
            assert sent.frame[begin : begin + sent.parts["anchor"]] == b"Answer: "
            assert bool(sent.parts["scales"]) == codec.startswith("int")

    def test_the_shortest_good_frame_is_found(self, crossing):
        assert crossing.shortest_good.codec == wire.CODECS[5]
        assert f"{wire.CODECS[5]}: {len(crossing.shortest_good.frame)} bytes, 90% right" in message.reading(crossing)

    def test_picture_shows_both_messages_and_every_byte(self, crossing):
        sent = crossing.sent["int4"]
        before, after, accuracies, squares = message_picture.picture(crossing, "int4").axes
        assert np.array_equal(before.images[0].get_array(), crossing.message)
        assert np.array_equal(after.images[0].get_array(), sent.came)
        assert before.images[0].get_clim() == after.images[0].get_clim()
        assert len(accuracies.lines) == len(crossing.sent) + 1
        named = {text.get_text() for text in squares.get_legend().get_texts()}
        assert {"header, 12", "scales, 4", "numbers, 32", "anchor, 8", "checksum, 4"} <= named
        image = squares.images[0].get_array()
        blank = np.isclose(image, 1).all(-1)
        longest = max(len(other.frame) for other in crossing.sent.values())
        coloured = np.ptp(image, axis=-1) > 0.005
        grey = sent.parts["header"]  # as is the room of the longest frame
        assert coloured.sum() == len(sent.frame) - grey + len(crossing.question.encode())
        assert (~blank).sum() == longest + len(crossing.question.encode())

    def test_a_part_is_paler_where_its_byte_is_smaller(self, crossing):
        image = np.ones((1, message_picture.PER_LINE, 3))
        message_picture._fill(image, 0, bytes([0, 255]), ["numbers", "numbers"])
        assert to_hex(image[0, 1]) == message_picture.COLOURS["numbers"]
        assert (image[0, 0] > image[0, 1]).all()

    def test_the_heading_says_what_was_answered(self, crossing):
        assert "1+1=2 · #### 2   (right)" in message_picture._heading(crossing, crossing.sent["fp32"])
        assert "3   (wrong)" in message_picture._heading(crossing, crossing.sent["int2"])


def test_tokens_have_names_that_can_be_seen():
    class Tokenizer:
        def decode(self, ids):
            return {0: " a", 1: "\n", 2: " "}[ids[0]]

    assert list(map(names(Tokenizer()), range(3))) == ["a", "⏎", "␣"]


def figure(value: int):
    made, ax = pyplot.subplots()
    ax.set_title(str(value))
    return made


SETUP = """
import matplotlib
matplotlib.use("agg")
from matplotlib import pyplot
from lib import lab

def figure(value):
    made, ax = pyplot.subplots()
    ax.set_title(str(value))
    return made
"""


class TestSlider:
    def test_without_a_page_there_is_one_still_picture(self, monkeypatch):
        found = []
        monkeypatch.setattr(lab, "display", lambda part, **_: found.append(part))
        lab.steps(figure, range(3), 1, "step")
        lab.steps(figure, range(3), 1, "step", strip=lambda: figure(7))
        assert [part.alt for part in found] == ["step: 1"] * 2
        assert found[0].data == lab.picture(figure(1), "").data
        assert found[1].data == lab.picture(figure(7), "").data
        assert pyplot.get_fignums() == []

    def test_a_kernel_tells_a_page_from_papermill(self):
        """A real kernel, asked as JupyterLab asks and as papermill does; the slider is moved as a page moves it."""
        manager, client = start_new_kernel()
        try:
            talk = partial(asked, client)
            talk(SETUP, {})
            still = talk("lab.steps(figure, range(3), 1, 'step')", {})
            assert kinds(still) == [("display_data", {"image/png", "text/plain"})]
            live = talk("lab.steps(figure, range(3), 1, 'step')", {"cellId": "a"})
            assert [kind for kind, _ in kinds(live)] == ["display_data", "display_data"]
            assert "application/vnd.jupyter.widget-view+json" in kinds(live)[0][1]
            slider = live[0]["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
            content = {"comm_id": slider, "data": {"method": "update", "state": {"index": 2}, "buffer_paths": []}}
            client.shell_channel.send(client.session.msg("comm_msg", content))
            (moved,) = heard(client, until="update_display_data")
            assert moved["transient"] == live[1]["transient"]
            assert moved["data"]["image/png"] != live[1]["data"]["image/png"]
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def asked(client, code: str, metadata: dict) -> list[dict]:
    """Run code with a request's metadata; what was displayed."""
    request = client.session.msg("execute_request", {"code": code, "silent": False, "stop_on_error": True})
    request["metadata"] = metadata
    client.shell_channel.send(request)
    reply = client.get_shell_msg(timeout=SECONDS)
    assert reply["content"]["status"] == "ok", reply["content"]
    return heard(client)


def heard(client, until: str = "") -> list[dict]:
    """What was displayed until the kernel is idle, or until something of a kind was."""
    found = []
    while True:
        try:
            said = client.get_iopub_msg(timeout=SECONDS)
        except Empty:
            pytest.fail(f"Nothing more was heard; so far: {found}")
        kind = said["msg_type"]
        if kind in ("display_data", "update_display_data"):
            found.append(said["content"] | {"kind": kind})
        if kind == until or (not until and kind == "status" and said["content"]["execution_state"] == "idle"):
            return found


def kinds(displayed: list[dict]) -> list[tuple[str, set[str]]]:
    return [(one["kind"], set(one["data"])) for one in displayed]


def test_the_notebook_runs_on_micro_models(micro_path, tmp_path):
    """Untaught models, so nothing is right; but every picture is there, and nothing needs a page."""
    book = paths.NOTEBOOKS / "00_start.ipynb"
    given = {"model": "ladder-micro", "draft_model": "ladder-micro", "mazes": "micro", "bridge": "micro/1a_stable_4tok"}
    output = tmp_path / "start.ipynb"
    notebooks.execute_page(book, pages.resolve(book, given), given, str(output), progress_bar=False)
    outputs = [out for cell in nbformat.read(output, 4).cells for out in cell.get("outputs", [])]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 4
    assert all("application/vnd.jupyter.widget-view+json" not in out.data for out in pictures)
    assert len([out for out in outputs if "text/markdown" in out.get("data", {})]) == 5
    assert "Traceback" not in json.dumps(outputs)
