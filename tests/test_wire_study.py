"""What 4b says of a bridge: bytes are lengths of frames, accuracy is of what came out of them, texts all come back."""

import json
from dataclasses import replace

import bridge_toys
import numpy as np
import pytest

from lib.bridge import arms, chosen, evaluation, wire_report, wire_study
from lib.bridge.chosen import Chosen
from lib.bridge.pair import encode
from lib.data.rows import DataError
from lib.metrics import textcodes
from lib.models import wire
from lib.params import resolve
from lib.params.wire import CODECS, Wire
from lib.results import frame

WHOLE = {"codecs": ["fp32", "int8", "int2"], "test": 6}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


@pytest.fixture(scope="module")
def subject(world):
    return Chosen(world.params(train=40))


def rows_of(world, subject, **changed):
    written = []
    params = resolve("4b_wire", WHOLE | changed)
    found = list(wire_study.run(params, subject, world.pair, lambda **record: written.append(record)))
    return found, written


@pytest.fixture(scope="module")
def found(world, subject):
    return rows_of(world, subject, seed=[0, 1])


def part(rows, protocol):
    return [row for row in rows if row["protocol"] == protocol]


def test_there_is_a_row_per_seed_codec_and_scale(found):
    rows, written = found
    kinds = [(row["seed"], row["codec"], row["scales"]) for row in part(rows, "message")]
    one = [("fp32", ""), ("int8", "fp32"), ("int8", "fp16"), ("int2", "fp32"), ("int2", "fp16")]
    assert kinds == [(seed, *kind) for seed in (0, 1) for kind in one]
    assert [(r["seed"], r["codec"], r["scales"]) for r in written] == kinds
    assert all(len(r["texts"]) == 6 for r in written)


def test_bytes_are_those_of_real_frames(world, subject, found):
    bridge = subject.bridge(world.pair, 1)
    message = evaluation.sent(bridge, encode(world.pair, subject.task(), subject.items("test", 6))).numpy()
    for row in part(found[0], "message")[5:]:
        options = {"scales": row["scales"] or "fp32", "bridge": bridge.fingerprint}
        frames = [wire.encode(one, row["codec"], **options) for one in message]
        assert row["frame_bytes"] == np.mean([len(one) for one in frames])
        names = ("header", "scale", "code", "anchor", "checksum")
        assert sum(row[f"{name}_bytes"] for name in names) == row["frame_bytes"]
        assert row["coded_bytes"] <= row["frame_bytes"]
        came = np.stack([wire.decode(one) for one in frames])
        assert row["sqnr_db"] == (None if row["codec"] == "fp32" else pytest.approx(snr(message, came)))


def snr(sent, came):
    return 10 * np.log10(np.square(sent.astype(float)).sum() / np.square(sent.astype(float) - came).sum())


def test_the_target_answers_what_came_out_of_the_frames(world, subject, monkeypatch):
    """With a wire that loses everything, all messages are one, and so are all answers."""
    plain, _ = rows_of(world, subject, codecs=["fp32"], texts=False)
    exact = next(row for row in part(plain, "message"))
    bridge = subject.bridge(world.pair)
    encoded = encode(world.pair, subject.task(), subject.items("test", 6))
    direct = evaluation.answer_messages(
        world.pair, bridge, subject.task(), evaluation.sent(bridge, encoded), hygiene=False
    )
    assert exact["correct"] == evaluation.score(subject.task(), encoded.items, direct)["correct"]
    monkeypatch.setattr(wire, "decode", lambda frame, bridge: np.ones((4, 6), np.float32))
    _, written = rows_of(world, subject, codecs=["fp32"], texts=False)
    assert len(set(written[0]["texts"])) == 1
    assert len(set(direct.texts)) > 1


def test_frames_carry_the_fingerprint_of_their_bridge(world, subject, monkeypatch):
    seen, encode_frame = set(), wire.encode
    monkeypatch.setattr(wire, "encode", lambda *a, **k: seen.add(k["bridge"]) or encode_frame(*a, **k))
    rows_of(world, subject, codecs=["int8"], texts=False)
    assert seen == {subject.bridge(world.pair).fingerprint}


def test_every_text_coder_is_there_and_gives_every_question_back(found):
    rows = part(found[0], "text")
    assert [row["coder"] for row in rows] == ["utf8", "deflate", "deflate_dict", "zstd_dict", "packed_ids", "lm"]
    assert all(row["lossless"] for row in rows)
    assert [row["side_bytes"] > 0 for row in rows] == [False, False, True, True, True, True]
    assert len({row["correct"] for row in rows}) == 1


def test_a_lossy_coder_is_read_as_what_came_back(world, subject, monkeypatch):
    """Questions that all came back as one are all answered alike, and the row says that they were lost."""
    whole = textcodes.fit("utf8", [])
    lossy = textcodes.Code("utf8", whole.encode, lambda blob: "Ada has 14 coins.")
    monkeypatch.setattr(textcodes, "CODERS", {"utf8": lambda corpus: lossy})
    rows, _ = rows_of(world, subject, codecs=["fp32"])
    row, whole = (next(r for r in part(rows, "text") if r["coder"] == name) for name in ("utf8", "lm"))
    assert (row["lossless"], whole["lossless"]) == (False, True)
    asked = [replace(item, question="Ada has 14 coins.") for item in subject.items("test", 6)]
    told = arms.text_rows(world.pair, encode(world.pair, subject.task(), asked), 4, ["target_alone"])
    assert row["correct"] == next(r for r in told if not r["decode_hygiene"])["correct"]


def test_entropy_coding_that_loses_something_stops_the_run(world, subject, monkeypatch):
    decode = wire.decode

    def damaged(frame, bridge):
        return decode(frame, bridge) + (1 if frame[3] & 32 else 0)

    monkeypatch.setattr(wire, "decode", damaged)
    with pytest.raises(AssertionError, match="Entropy coding changed a message in fp32"):
        rows_of(world, subject, texts=False)


def test_a_wrong_gsm8k_file_is_refused_before_any_model(tmp_path):
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"question": "1 + 1?"}\n')
    with pytest.raises(DataError, match="answer"):
        wire_study.bridge_of(resolve("4b_wire", {"gsm8k": str(wrong)}))


def test_dictionaries_never_see_a_test_question(world, subject, monkeypatch):
    given, fit = [], textcodes.fit
    monkeypatch.setattr(textcodes, "fit", lambda name, corpus: given.append(corpus) or fit(name, corpus))
    rows_of(world, subject, codecs=["fp32"])
    asked = {item.question for item in subject.items("test", 6)}
    assert given
    assert not any(asked & set(corpus) for corpus in given)


def test_the_floor_is_the_entropy_of_a_question(subject, found):
    (row,) = part(found[0], "floor")
    assert row["entropy_bytes"] == subject.task().entropy_bits() / 8


def test_the_plans_sizes_are_there_without_any_training(found):
    rows = [row for row in part(found[0], "geometry") if row["codec"] in CODECS]
    assert {(row["tokens"], row["width"]) for row in rows} == {(32, 4096), (48, 4096), (64, 4096)}
    assert all(row["times_prompt"] > 100 for row in rows)


def test_nothing_depends_on_gold_answers(world, subject, monkeypatch):
    """Other golds change what is right, and neither a byte of a frame nor a word of an answer."""
    before, wrote = rows_of(world, subject, codecs=["int8"], texts=False)
    load = subject.task().load

    def forged(self, split, count):
        return [replace(item, gold="17") for item in load(split, count, "")]

    monkeypatch.setattr(Chosen, "items", forged)
    after, written = rows_of(world, subject, codecs=["int8"], texts=False)
    assert [r["texts"] for r in wrote] == [r["texts"] for r in written]
    assert [r["coded_bytes"] for r in part(before, "message")] == [r["coded_bytes"] for r in part(after, "message")]


def test_a_bridge_is_changed_as_asked(tmp_path):
    given = {"bridge": "quick/1a_stable_8tok", "soft_tokens": 4, "wire_dim": 8, "noise_bits": 4, "steps": 30}
    made = wire_study.bridge_of(resolve("4b_wire", given)).params
    assert (made.soft_tokens, made.wire_dim, made.noise_bits, made.steps) == (4, 8, 4, 30)
    same = wire_study.bridge_of(resolve("4b_wire", {"bridge": "quick/1a_stable_8tok"}))
    assert same == chosen.find("quick/1a_stable_8tok")


class Shown:
    """A run as far as `results.frame` looks at it."""

    def __init__(self, params: Wire, folder) -> None:
        self.params, self.dir = params, folder


def test_tables_say_what_the_rows_say(found, tmp_path):
    rows = json.loads(json.dumps(found[0]))
    table = frame(Shown(resolve("4b_wire", WHOLE | {"seed": [0, 1]}), tmp_path), rows)
    codecs = wire_report.codecs(table)
    messages = part(found[0], "message")
    int2 = [row for row in messages if (row["codec"], row["scales"]) == ("int2", "fp16")]
    whole = [row for row in messages if row["codec"] == "fp32"]
    text = next(row for row in part(found[0], "text") if row["coder"] == "utf8")
    shown = codecs.loc[("int2", "fp16")]
    assert shown.frame_bytes == int2[0]["frame_bytes"]
    assert shown["text / frame"] == pytest.approx(text["bytes"] / int2[0]["frame_bytes"], abs=1e-3)
    drop = np.mean([row["accuracy"] for row in whole]) - np.mean([row["accuracy"] for row in int2])
    assert shown["drop"] == pytest.approx(drop, abs=1e-3)
    texts = wire_report.texts(table)
    assert texts.loc["utf8", "repaid_after"] == 0
    assert texts.loc["entropy", "bytes"] == pytest.approx(part(found[0], "floor")[0]["entropy_bytes"], abs=1e-3)
    assert set(wire_report.room(table, 32).columns) == set(table[table.protocol == "text"].coder)
    assert "shortest frame" in wire_report.reading(table)
    summary = wire_report.summary(table)
    assert len(summary["messages"]) == 5
    assert summary["texts"]["utf8"] == text["bytes"]


def test_tables_do_without_texts(world, subject, tmp_path):
    rows, _ = rows_of(world, subject, texts=False)
    table = frame(Shown(resolve("4b_wire", WHOLE), tmp_path), rows)
    assert "text / frame" not in wire_report.codecs(table)
    assert wire_report.texts(table).empty
    assert wire_report.summary(table)["texts"] == {}


def test_the_frame_that_is_shown_is_cut_where_its_parts_end(world, subject):
    shown = wire_report.example(subject, world.pair, resolve("4b_wire", WHOLE)).data.iloc[:, 0]
    parts = [text for name, text in shown.items() if name.split(",")[0] in wire_report.PARTS]
    joined = bytes.fromhex(" ".join(parts))
    assert shown.index[-1] == f"frame, {len(joined)} B"
    assert wire.decode(joined, bridge=subject.bridge(world.pair).fingerprint).shape == (4, 6)
    assert bytes.fromhex(parts[3]) == b"Answer: "
