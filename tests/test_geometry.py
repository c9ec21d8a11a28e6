"""The plan's sizes: those of frames really made, beside prompts really measured."""

import json

import numpy as np
import pytest

from lib.bridge import geometry
from lib.bridge.tasks import MATHS
from lib.data.rows import DataError
from lib.models import wire
from lib.models.bridge_reader import ANCHOR


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return list(geometry.rows())


def test_every_frame_is_as_long_as_a_real_one(rows):
    frames = [row for row in rows if row["codec"] != "kv_cache"]
    assert {row["tokens"] for row in frames} == {32, 48, 64}
    message = np.random.default_rng(0).normal(size=(64, 4096)).astype(np.float32)
    for row in frames:
        frame = wire.encode(message[: row["tokens"]], row["codec"], scales=row["scales"] or "fp32")
        assert row["frame_bytes"] == len(frame), row


def test_each_codec_comes_with_each_of_its_scales_once(rows):
    at_64 = [(row["codec"], row["scales"]) for row in rows if row["geometry"] == "64 x 4096"]
    integers = [(f"int{bits}", scales) for bits in (8, 6, 4, 3, 2) for scales in ("fp32", "fp16")]
    assert sorted(at_64) == sorted([("fp32", ""), ("fp16", ""), ("bf16", ""), *integers])


def test_caches_are_those_of_the_published_configurations(rows):
    caches = {row["geometry"]: row for row in rows if row["codec"] == "kv_cache"}
    assert {name: row["frame_bytes"] // row["tokens"] for name, row in caches.items()} == {
        "KV cache, Mistral-7B-v0.3": 131_072,
        "KV cache, Llama-3.1-8B": 131_072,
        "KV cache, Llama-2-7B": 524_288,
    }
    assert all("assumes" in row["assumption"] for row in caches.values())


def test_rows_are_comparisons_with_the_prompt(rows):
    assert {row["protocol"] for row in rows} == {"geometry"}
    assert all(row["times_prompt"] == row["frame_bytes"] / row["prompt_bytes"] for row in rows)
    assert min(row["times_prompt"] for row in rows) > 100  # the plan expected 0.2 to 0.5


def test_the_stored_prompts_are_in_the_words_of_today():
    around = len(f"{MATHS}\n\n\n{ANCHOR}".encode())
    assert geometry.MEASURED.prompt_bytes - geometry.MEASURED.question_bytes == pytest.approx(around)


def test_a_file_is_measured_in_bytes(tmp_path):
    file = tmp_path / "maths.jsonl"
    asked = ["Janet’s ducks lay 16 eggs. How many?", "A robe takes 2 bolts."]
    file.write_text("\n".join(json.dumps({"question": q, "answer": "#### 1"}) for q in asked), encoding="utf-8")
    row = next(geometry.rows(str(file)))
    questions = [36 + 2, 21]  # the apostrophe takes three bytes
    assert row["question_bytes"] == sum(questions) / 2
    assert row["prompt_bytes"] == sum(questions) / 2 + len(f"{MATHS}\n\n\n{ANCHOR}")
    assert row["prompt_source"] == "2 questions of the file given"


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(DataError):
        next(geometry.rows(str(tmp_path / "none.jsonl")))
