"""Answers: numbers by value, entities by line, HotpotQA's scores by its rules, and nothing unreadable is right."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.metrics.answers import (
    canonical,
    extract_entity,
    extract_flexible,
    extract_gsm8k,
    hotpotqa_em_f1,
    normalise,
    same_number,
)

WORDS = st.lists(st.sampled_from(["the", "a", "Red", "red", "hat", "hats", "An", "no", "1,5"]), min_size=1, max_size=6)


def harness(text: str) -> str | None:
    """What lm-evaluation-harness compares: the first match of its pattern without commas and closing full stop."""
    found = re.findall(r"#### (-?[0-9.,]+)", text)
    return re.sub(r"\.$", "", found[0].replace(",", "")) if found else None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She makes 9 * 2 = $<<9*2=18>>18 a day.\n#### 18", "18"),
        ("#### 18.0", "18"),
        ("#### $18", "18"),
        ("####18 apples", "18"),
        ("#### 1,018.", "1018"),
        ("#### $70,000.00\nQuestion: 5", "70000"),
        ("#### -10", "-10"),
        ("#### -$10", "-10"),
        ("#### $-10", "-10"),
        ("#### .50", "0.5"),
        ("#### 007", "7"),
        ("#### -0", "0"),
        ("#### 100", "100"),
        ("#### 5\n#### 7", "5"),
        ("##### 18", "18"),
    ],
)
def test_the_number_after_the_marker(text, number):
    assert extract_gsm8k(text) == extract_flexible(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "The answer is 18.", "#### ", "#### .", "#### apples", "#### 210.0.0", "####\n18", "### 18", "#### x18"],
)
def test_no_number_after_the_marker(text):
    assert extract_gsm8k(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 18.", "18"),
        ("16-3=13", "13"),
        ("so 16-3", "3"),
        ("It falls to -3 degrees.", "-3"),
        ("It costs $1,234.50.", "1234.5"),
        ("a debt of $-5", "-5"),
        ("I say 5, not more...", "5"),
        ("wait...5", "5"),
        ("one of $.75", "0.75"),
        ("version 1.2.3", None),
        ("nothing", None),
        ("#### apples 5", None),
        ("5 apples\n#### 210.0.0", None),
    ],
)
def test_the_last_number_where_there_is_no_marker(text, number):
    assert extract_flexible(text) == number


@given(st.integers(-(10**9), 10**9), st.integers(0, 99), st.sampled_from(["{:,}", "{}"]))
def test_numbers_compare_by_value_however_they_are_written(whole, cents, style):
    written = style.format(whole) + f".{cents:02}"
    got = extract_gsm8k(f"so much:\n#### ${written}. Right?")
    assert Fraction(got) == Fraction(written.replace(",", ""))
    assert same_number(got, written)
    assert not same_number(got, f"{whole + 1}.{cents:02}")


@given(
    st.text("ab 0123456789.$\n", max_size=20),
    st.from_regex(r"-?[0-9]{1,3}(,[0-9]{3})*(\.[0-9]{1,2})?\.?", fullmatch=True),
    st.sampled_from(["", "\n", " apples", "\n#### 7", ", or 7"]),
)
def test_well_formed_numbers_as_the_harness_reads_them(before, number, after):
    text = f"{before}#### {number}{after}"
    assert Fraction(extract_gsm8k(text)) == Fraction(harness(text))


@pytest.mark.parametrize("run", [" ", "$", "-", "-$", ",", ".", "1.", "#### ", "#### -"])
def test_what_a_stuck_model_repeats_is_read_in_no_time(run):
    """Patterns must not try every way to cut a run in two: thousands of blanks would take hours."""
    for text in (f"#### {run * 3000}x", run * 3000):
        assert extract_gsm8k(text) is extract_flexible(text) is None


@given(st.text(max_size=60))
def test_any_text_gives_a_canonical_number_or_none(text):
    for got in (extract_gsm8k("#### " + text), extract_flexible(text)):
        assert got is None or (
            re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", got) and canonical(got) == got != "-0"
        )


@pytest.mark.parametrize("wrong", ["1e999999999", "NaN", "Infinity", "1_000", "٣", "", "--5", "5-", "x"])
def test_what_only_a_programming_language_calls_a_number_is_none(wrong):
    assert canonical(wrong) is None


def test_an_unreadable_answer_is_never_right():
    assert not same_number(None, "18")
    assert not same_number("[invalid]", "18")
    assert hotpotqa_em_f1(None, "no") == hotpotqa_em_f1(" \n", "no") == (0.0, 0.0)
    assert hotpotqa_em_f1(None, "The The") == hotpotqa_em_f1("", "The The") == (0.0, 0.0)  # no word is left of the gold


def test_an_unreadable_gold_raises():
    for predicted in (None, "18", "[invalid]"):
        with pytest.raises(ValueError, match=r"gold answer '\[invalid\]' is not a number"):
            same_number(predicted, "[invalid]")
    for prediction in (None, "", "Paris"):
        with pytest.raises(ValueError, match="gold answer is blank"):
            hotpotqa_em_f1(prediction, " ")


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("Ada, Rome.\n#### Rome", "Rome"),
        ("####  New York \nmore", "New York"),
        ("#### yes\n#### no", "yes"),
        ("#### \nRome", None),
        ("####", None),
        ("Rome", None),
    ],
)
def test_the_entity_is_the_rest_of_the_line(text, entity):
    assert extract_entity(text) == entity


@pytest.mark.parametrize(
    ("prediction", "gold", "em", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1, 1),
        ("Chief of Protocol", "the chief protocol", 0, 2 * 1 * (2 / 3) / (1 + 2 / 3)),
        ("tower tower", "tower", 0, 2 * (1 / 2) * 1 / (1 / 2 + 1)),
        ("Rome", "Paris", 0, 0),
        ("yes", "Yes.", 1, 1),
        ("yes", "no", 0, 0),
        ("yes it is", "yes", 0, 0),
        ("no", "no man's land", 0, 0),
        ("noanswer", "noanswer given", 0, 0),
        ("Rock'n'Roll", "rocknroll", 1, 1),
        ("1,5", "15", 1, 1),
        ("Another", "other", 0, 0),
        ("a b c", "b c d e", 0, 2 * 1 * 0.5 / 1.5),
        ("The The", "The The", 1, 0),  # as the official script has it: no word is left to share
    ],
)
def test_hotpotqa_scores_by_hand(prediction, gold, em, f1):
    assert hotpotqa_em_f1(prediction, gold) == (em, pytest.approx(f1))


@given(WORDS, WORDS)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(ours, theirs):
    prediction, gold = " ".join(ours), " ".join(theirs)
    predicted, wanted = normalise(prediction).split(), normalise(gold).split()
    left, shared = list(wanted), 0
    for word in predicted:
        if word in left:
            left.remove(word)
            shared += 1
    em, f1 = hotpotqa_em_f1(prediction, gold)
    assert em == (predicted == wanted)
    if shared == 0 or (["no"] in (predicted, wanted) and predicted != wanted):
        assert f1 == 0
    else:
        precision, recall = shared / len(predicted), shared / len(wanted)
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
