"""Benchmarks: files load as their lines say or name the wrong line; embedded requests are balanced and held out."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import arithmetic, corpus
from lib.data.benchmark import CATEGORIES, BenchmarkError, Request, embedded, load
from lib.data.prompts import encode, encode_chat, fit
from lib.data.tokenizer import train_tokenizer
from lib.models import dummy


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(1024)


@pytest.fixture
def file(tmp_path):
    def write(*lines, encoding="utf-8"):
        path = tmp_path / "benchmark.jsonl"
        path.write_bytes("\n".join(lines).encode(encoding))
        return path

    return write


def test_a_prompt_a_line(file):
    path = file('{"prompt": "Hi", "id": "a", "category": "qa", "max_tokens": 5}', '{"prompt": "Grüße", "id": 7}')
    assert load(path) == [Request("a", "qa", ("Hi",)), Request("7", "uncategorised", ("Grüße",))]
    assert load(str(path)) == load(path)


def test_spec_bench_rows(file):
    rows = [
        {"question_id": 81, "category": "writing", "turns": ["Write a post.", "Start every sentence with A."]},
        {"question_id": 111, "category": "math", "turns": ["How far is it?", "And back?"], "reference": ["3", "3"]},
        {"question_id": 401, "category": "qa", "turns": ["who wrote the book"]},
    ]
    loaded = load(file(*(json.dumps(row) for row in rows)))
    assert [request.id for request in loaded] == ["81", "111", "401"]
    assert [request.category for request in loaded] == ["writing", "math", "qa"]
    assert [list(request.turns) for request in loaded] == [row["turns"] for row in rows]
    assert {request.reference for request in loaded} == {None}


def test_blank_lines_count_as_lines_and_are_skipped(file):
    path = file("", '{"prompt": "one"}', "  \t", '{"prompt": "two"}\r', "")
    assert [request.id for request in load(path)] == ["entry_2", "entry_4"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("text", ["plain", "a\u2028b\u0085c\u000cd", "日本"])
def test_any_text_survives_with_and_without_a_byte_order_mark(file, encoding, text):
    """Unicode has more line breaks than JSONL: they belong to the text."""
    path = file(json.dumps({"prompt": text}, ensure_ascii=False), '{"prompt": "next"}', encoding=encoding)
    assert [request.turns for request in load(path)] == [(text,), ("next",)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")).filter(str.strip), min_size=1), min_size=1))
def test_what_was_written_is_what_is_read(tmp_path_factory, conversations):
    path = tmp_path_factory.mktemp("any") / "file.jsonl"
    path.write_text("\n".join(json.dumps({"turns": turns}) for turns in conversations), encoding="utf-8")
    assert [list(request.turns) for request in load(path)] == conversations


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "x"', "it is not JSON"),
        ("just text", "it is not JSON"),
        ('{"prompt": "\\ud800"}', "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('["prompt"]', "it is not an object"),
        ("null", "it is not an object"),
        ('{"text": "x"}', "it has neither `prompt` nor `turns`"),
        ('{"prompt": "x", "turns": ["x"]}', "it has both `prompt` and `turns`"),
        ('{"prompt": 5}', "`prompt` is 5"),
        ('{"prompt": null}', "`prompt` is null"),
        ('{"prompt": ["x"]}', '`prompt` is ["x"]'),
        ('{"prompt": " \\n"}', '`prompt` is " \\n"'),
        ('{"turns": "x"}', '`turns` is "x"'),
        ('{"turns": []}', "`turns` is []"),
        ('{"turns": ["x", 1]}', "a turn in `turns` is 1"),
        ('{"turns": ["x", ""]}', 'a turn in `turns` is ""'),
        ('{"turns": {"user": "' + "x" * 99 + '"}}', '`turns` is {"user": "' + "x" * 27 + "..."),
        ('{"prompt": "x", "id": ["a"]}', 'its id is ["a"]'),
        ('{"prompt": "x", "id": true}', "its id is true"),
        ('{"prompt": "x", "id": ""}', 'its id is ""'),
        ('{"prompt": "x", "question_id": 1.5}', "its id is 1.5"),
        ('{"prompt": "x", "category": 3}', "its category is 3"),
        ('{"prompt": "x", "category": " "}', 'its category is " "'),
        ('{"prompt": "x", "id": "first"}', "the id 'first' is that of line 1 already"),
    ],
)
def test_a_wrong_line_is_named_in_one_sentence(file, line, reason):
    path = file('{"prompt": "fine", "id": "first"}', "", line, '{"prompt": "fine too"}')
    with pytest.raises(BenchmarkError) as error:
        load(path)
    said = str(error.value)
    assert said.startswith(f"Line 3 of benchmark '{path}' cannot be used, because {reason}")
    assert re.search(r": [^:]+.*\.$", said.removeprefix(f"Line 3 of benchmark '{path}'")), "and what to do instead"
    assert "\n" not in said


def test_ids_are_compared_as_texts_the_default_included(file):
    with pytest.raises(BenchmarkError, match=r"Line 2 .* id '5' is that of line 1"):
        load(file('{"prompt": "x", "id": 5}', '{"prompt": "x", "question_id": "5"}'))
    with pytest.raises(BenchmarkError, match=r"Line 2 .* id 'entry_2' is that of line 1"):
        load(file('{"prompt": "x", "id": "entry_2"}', '{"prompt": "x"}'))


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_an_empty_file_is_a_sentence(file, lines):
    with pytest.raises(BenchmarkError, match=r"is empty: give it one JSON object per line.*\.$"):
        load(file(*lines))


def test_a_file_that_is_not_there_or_not_text_is_a_sentence(file, tmp_path):
    with pytest.raises(
        BenchmarkError, match=r"There is no benchmark file '.*none\.jsonl': give .* embedded requests\.$"
    ):
        load(tmp_path / "none.jsonl")
    with pytest.raises(BenchmarkError, match=r"cannot be read \(Is a directory\): give a file you can read\.$"):
        load(tmp_path)
    with pytest.raises(BenchmarkError, match=r"^Line 2 of benchmark '.*' is not UTF-8: save the file as UTF-8\.$"):
        load(file('{"prompt": "x"}', '{"prompt": "Grüße"}', encoding="latin-1"))


def test_every_beginning_of_the_embedded_requests_is_balanced():
    requests = embedded(50, 0)
    assert len(CATEGORIES) >= 5
    for count in range(1, 51):
        found = [request.category for request in requests[:count]]
        shares = [found.count(category) for category in CATEGORIES]
        assert max(shares) - min(shares) <= 1


def test_same_seed_same_requests_more_begin_alike_other_seed_others():
    assert embedded(20, 3) == embedded(60, 3)[:20]
    one, other = embedded(1400, 0), embedded(210, 1)
    assert len({request.turns for request in one}) == 1400, "products are few enough to be drawn twice"
    assert len({request.id for request in one + other}) == 1610
    assert not {request.turns for request in one[:210]} & {request.turns for request in other}
    assert embedded(0, 0) == []


def test_references_are_answers():
    for request in embedded(140, 0):
        (asked,) = request.turns
        instruction, _, passage = asked.partition("\n\n")
        match request.category:
            case "story":
                assert request.reference is None
            case "math" | "qa":
                assert re.search(r"\n#### \w+$", request.reference)
            case "list" | "repeat":
                assert request.reference == passage
            case "quote":
                assert request.reference in passage
                assert passage.partition(request.reference)[0].endswith(f"{instruction.split()[2]} says: ")
            case "edit":
                new, old = re.findall(r'"(\w+)"', instruction)
                assert request.reference == re.sub(rf"\b{old}\b", new, passage) != passage


def test_the_model_is_asked_as_it_was_taught():
    """With its words struck out, a request with its reply is a chat of the training corpus."""

    def shape(text):
        return re.sub(r"\w+( \w+)*", "w", text)

    kinds = ("arithmetic", "multihop", "copyedit")
    taught = {shape(d.text) for kind in kinds for d in corpus.documents("taught", 800, "train", kind) if d.chat}
    for request in embedded(140, 0):
        if request.category == "story":
            assert request.turns[0].split("\n\n")[0] in corpus.CONTINUE
        else:
            assert shape(corpus.chat(request.turns[0], request.reference)) in taught


def test_embedded_requests_are_held_out():
    """The training stream never holds the chat of a request; sums and products are held out by their operands too."""
    requests = embedded(350, 0)
    trained = {d.text for d in corpus.documents("train 0 0", 3000)}
    for request in requests:
        if request.reference is not None:
            chat = corpus.chat(request.turns[0], request.reference)
            assert corpus.stream_of(chat) == "validation"
            assert chat not in trained
    problems = {p.question for kind in arithmetic.KINDS for p in arithmetic.problems("any", 500, kind, "train")}
    assert not problems & {request.turns[0] for request in requests}
    for x, y in re.findall(r"(\d+) \+ (\d+) =", " ".join(request.reference or "" for request in requests)):
        assert tuple(sorted((int(x), int(y)), reverse=True)) in arithmetic.pairs("+", "heldout")


def test_the_rule_that_holds_out_is_asked_in_every_category(monkeypatch):
    before, rule = embedded(70, 0), corpus.stream_of
    monkeypatch.setattr(corpus, "stream_of", lambda text: "train" if rule(text) == "validation" else "validation")
    assert not {request.turns for request in before} & {request.turns for request in embedded(70, 0)}


def test_a_conversation_is_what_the_template_makes_of_it(tokenizer):
    turns = ["Say this again.", "This.", "And again."]
    shown = tokenizer.decode(encode_chat(tokenizer, turns))
    assert shown == (
        "<|endoftext|><|im_start|>user\nSay this again.<|im_end|>\n<|im_start|>assistant\nThis.<|im_end|>\n"
        "<|im_start|>user\nAnd again.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert encode_chat(tokenizer, turns[:1]) == encode(tokenizer, turns[0])
    assert encode_chat(tokenizer, turns)[: len(encode(tokenizer, turns[0]))] == encode(tokenizer, turns[0])


def test_a_tokenizer_without_a_template_gets_plain_lines():
    plain = dummy.tokenizer(300)
    plain.chat_template = None
    assert plain.decode(encode_chat(plain, ["a", "b", "c"]), skip_special_tokens=True) == "a\nb\nc"
    assert encode(plain, "a b") == plain("a b")["input_ids"]


@pytest.mark.parametrize("turns", [[], ["a", "b"]])
def test_the_user_has_the_last_word(tokenizer, turns):
    with pytest.raises(ValueError, match=f"odd number of turns, not {len(turns)}"):
        encode_chat(tokenizer, turns)


@given(st.integers(0, 60), st.integers(1, 60))
def test_a_long_prompt_loses_its_middle_only(length, room):
    ids = list(range(length))
    kept, cut = fit(ids, room)
    assert len(kept) == min(length, room) == length - cut
    gaps = [index for index in range(1, len(kept)) if kept[index] != kept[index - 1] + 1]
    assert len(gaps) <= 1
    if cut and room > 1:
        assert (kept[0], kept[-1], gaps) == (0, length - 1, [room // 2])
    if cut:
        assert kept[-1] == length - 1, "the last token opens the assistant's turn"


def test_no_room_is_a_sentence():
    with pytest.raises(ValueError, match="room for at least 1 token, not -3: ask for fewer new tokens"):
        fit([1, 2], -3)
