"""GSM8K's rows load from every place they may be in, or one sentence names the row or says how to get them."""

import json

import datasets
import pytest

from lib.data import gsm8k
from lib.data.gsm8k import Row
from lib.data.rows import DataError
from lib.metrics.answers import extract_gsm8k

RAW = [
    {"question": "Ann has 2 pens and buys 3. How many?", "answer": "2+3=<<2+3=5>>5\n#### 5"},
    {"question": "Ben’s car costs $1,000 and 18 more.\u2028What?", "answer": "It is $1,018.\n#### 1,018", "id": 7},
    {"question": "Half of 5?", "answer": "#### 2.50"},
    {"question": "3 less 13?", "answer": "3-13=-10\n#### -10"},
]
GOLD = ["5", "1018", "2.5", "-10"]


@pytest.fixture
def file(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "rows.json"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def lines(raw=RAW):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in raw)


def message(*arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        gsm8k.load(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert ". " not in text.replace("...", "")
    return text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("text", [lines(), "\n" + lines() + "\n\n", json.dumps(RAW), json.dumps(RAW, indent=2)])
def test_lines_and_lists(file, text, encoding):
    path = file(text, encoding)
    loaded = gsm8k.load(path)
    assert loaded == [Row(r["question"], r["answer"], g) for r, g in zip(RAW, GOLD, strict=True)]
    assert gsm8k.load(str(path), split="train") == loaded


def test_gold_is_what_extraction_finds_in_the_answer(file):
    assert [extract_gsm8k(row.answer) for row in gsm8k.load(file(lines()))] == GOLD


def test_a_folder_saved_by_datasets(tmp_path):
    raw = [{key: row[key] for key in ("question", "answer")} for row in RAW]
    one, several = tmp_path / "one", tmp_path / "several"
    datasets.Dataset.from_list(raw).save_to_disk(one)
    parts = {"train": datasets.Dataset.from_list(raw[:3]), "test": datasets.Dataset.from_list(raw[3:])}
    datasets.DatasetDict(parts).save_to_disk(several)
    assert [row.gold for row in gsm8k.load(one)] == GOLD
    assert [row.gold for row in gsm8k.load(several)] == GOLD[3:]
    assert [row.gold for row in gsm8k.load(several, "train")] == GOLD[:3]
    datasets.DatasetDict({"train": parts["train"]}).save_to_disk(tmp_path / "half")
    assert "has no split 'test' but train" in message(tmp_path / "half")


def test_without_a_path_the_hub_is_asked_for_the_right_set(monkeypatch):
    asked = []

    def hub(*place, split):
        asked.append((*place, split))
        return datasets.Dataset.from_list([{key: row[key] for key in ("question", "answer")} for row in RAW])

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert [row.gold for row in gsm8k.load()] == GOLD
    assert [row.gold for row in gsm8k.load(split="train")] == GOLD
    assert asked == [("openai/gsm8k", "main", "test"), ("openai/gsm8k", "main", "train")]


def test_without_a_path_a_cache_or_a_network_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    text = message()
    assert "openai/gsm8k is neither in the local cache nor to be had from the hub" in text
    assert 'datasets.load_dataset("openai/gsm8k", "main").save_to_disk(FOLDER)' in text


def test_where_there_is_nothing_to_read(tmp_path, file):
    assert "There is no data set" in message(tmp_path / "none.jsonl")
    assert "is not a folder saved by `datasets`" in message(tmp_path)
    assert "is empty" in message(file(" \n"))
    assert "choose one of train, test" in message(file(lines()), "validation")
    (tmp_path / "latin").write_bytes(b'{"question": "\xff"}')
    assert "is not UTF-8" in message(tmp_path / "latin")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"question": "a"', "it is not JSON"),
        ('["a", "#### 1"]', "it is not a JSON object"),
        ('{"question": "", "answer": "#### 1"}', '`question` is ""'),
        ('{"question": 7, "answer": "#### 1"}', "`question` is 7"),
        ('{"question": "a"}', "`answer` is missing"),
        ('{"question": "a", "answer": "1"}', "`answer` does not end in '#### ' and a number"),
        ('{"question": "a", "answer": "#### one"}', "`answer` does not end in '#### ' and a number"),
        ('{"question": "a", "answer": "#### 1.2.3"}', "`answer` does not end in '#### ' and a number"),
        ('{"question": "a", "answer": "#### 1\\nand more"}', "`answer` does not end in '#### ' and a number"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(file, row, reason):
    text = message(file(f"{lines()}\n\n{row}"))
    assert text.startswith("Line 6 of '")
    assert reason in text


def test_a_row_of_a_list_is_named(file):
    assert message(file(json.dumps([*RAW, {"question": "a", "answer": ""}]))).startswith("Row 5 of '")
    assert message(file(json.dumps([*RAW, 3]))).startswith("Row 5 of '")
    assert "it is not JSON" in message(file(json.dumps(RAW)[:-1]))
