"""HotpotQA's rows load alike from both layouts, with the paragraphs that were asked for, or the row is named."""

import json

import datasets
import pytest

from lib.data import hotpotqa
from lib.data.hotpotqa import Row
from lib.data.rows import DataError

PARAGRAPHS = [
    ["Rome", ["Rome is old.", " It lies on the Tiber."]],
    ["Ada", ["Ada was born in Bree."]],
    ["Bree", [" Bree is a village.", " It has an inn."]],
]
OFFICIAL = [
    {
        "_id": "1",
        "question": "What has the village in which Ada was born?",
        "answer": "an inn ",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": [["Bree", 1], ["Ada", 0], ["Bree", 7]],
        "context": PARAGRAPHS,
    },
    {
        "_id": "2",
        "question": "Is Rome older than Bree?",
        "answer": "yes",
        "type": "comparison",
        "level": "easy",
        "supporting_facts": [["Rome", 0], ["Bree", 0]],
        "context": PARAGRAPHS,
    },
]
ROME, ADA, BREE = (
    "Rome: Rome is old. It lies on the Tiber.",
    "Ada: Ada was born in Bree.",
    "Bree: Bree is a village. It has an inn.",
)


def parallel(row: dict) -> dict:
    """The row in the layout of `datasets`: lists side by side where the file has pairs."""
    titles, sentences = zip(*row["context"], strict=True)
    fact_titles, numbers = zip(*row["supporting_facts"], strict=True)
    rest = {key: row[key] for key in ("question", "answer", "type", "level")} | {"id": row["_id"]}
    return rest | {
        "context": {"title": list(titles), "sentences": list(sentences)},
        "supporting_facts": {"title": list(fact_titles), "sent_id": list(numbers)},
    }


@pytest.fixture
def file(tmp_path):
    def write(rows):
        path = tmp_path / "hotpot.json"
        path.write_text(json.dumps(rows), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("context", "texts"),
    [
        ("gold", [f"{ADA}\n{BREE}", f"{ROME}\n{BREE}"]),
        ("full", [f"{ROME}\n{ADA}\n{BREE}"] * 2),
        ("none", ["", ""]),
    ],
)
def test_both_layouts_give_the_same_rows(file, tmp_path, context, texts):
    folder = tmp_path / "saved"
    datasets.DatasetDict({"validation": datasets.Dataset.from_list([parallel(r) for r in OFFICIAL])}).save_to_disk(
        folder
    )
    expected = [
        Row(OFFICIAL[0]["question"], texts[0], "an inn ", "an inn", "bridge", "hard"),
        Row(OFFICIAL[1]["question"], texts[1], "yes", "yes", "comparison", "easy"),
    ]
    assert hotpotqa.load(file(OFFICIAL), context=context) == expected
    assert hotpotqa.load(file([parallel(row) for row in OFFICIAL]), context=context) == expected
    assert hotpotqa.load(folder, context=context) == expected


def test_gold_paragraphs_are_the_default_and_the_hub_is_asked_for_the_right_set(file, monkeypatch):
    asked = []

    def hub(*place, split):
        asked.append((*place, split))
        return [parallel(row) for row in OFFICIAL]

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert hotpotqa.load() == hotpotqa.load(split="train") == hotpotqa.load(file(OFFICIAL), context="gold")
    assert asked == [("hotpotqa/hotpot_qa", "distractor", split) for split in ("validation", "train")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": " "}, "`answer` is"),
        ({"answer": None}, "`answer` is null"),
        ({"type": 3}, "`type` is 3"),
        ({"supporting_facts": [["Paris", 0], ["Ada", 0]]}, "the supporting paragraph 'Paris' is not in its context"),
        ({"context": None}, "paragraphs or supporting facts cannot be read"),
        ({"context": [["Ada"]]}, "paragraphs or supporting facts cannot be read"),
        ({"context": [["Ada", [1, 2]]]}, "paragraphs or supporting facts cannot be read"),
        ({"context": {"title": ["Ada"], "sentences": []}}, "paragraphs or supporting facts cannot be read"),
        ({"context": {"title": ["Ada"]}}, "paragraphs or supporting facts cannot be read"),
        ({"supporting_facts": 1}, "paragraphs or supporting facts cannot be read"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(file, change, reason):
    with pytest.raises(DataError) as caught:
        hotpotqa.load(file([OFFICIAL[0], OFFICIAL[1] | change]))
    assert str(caught.value).startswith("Row 2 of '")
    assert reason in str(caught.value)


def test_what_is_not_read_need_not_be_there(file):
    bare = {key: value for key, value in OFFICIAL[0].items() if key not in ("context", "supporting_facts")}
    assert hotpotqa.load(file([bare]), context="none")[0].context == ""
    with pytest.raises(DataError, match="Row 1"):
        hotpotqa.load(file([bare]))


def test_unknown_contexts_and_splits(file):
    with pytest.raises(DataError, match="choose one of gold, full, none"):
        hotpotqa.load(file(OFFICIAL), context="some")
    with pytest.raises(DataError, match="no split 'test' with answers: choose one of train, validation"):
        hotpotqa.load(split="test")
