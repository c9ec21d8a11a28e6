"""Two-hop questions: their gold follows from their text, their entropy is what is drawn, their splits share nothing."""

import math
import re

import pytest

from lib.data import two_hop
from lib.data.choices import Draw
from lib.metrics.answers import extract_entity

MADE = two_hop.questions("tests", 400, "train")


def read(text: str) -> str:
    """The answer by reading the evidence alone."""
    mothers = dict(re.findall(r"The mother of (\w+) is (\w+)\.", text))
    towns = dict(re.findall(r"(\w+) lives in (\w+)\.", text))
    if asked := re.search(r"Where does the mother of (\w+) live\?", text):
        return towns[mothers[asked[1]]]
    first, second = re.search(r"Do the mothers of (\w+) and (\w+) live in the same town\?", text).groups()
    return "yes" if towns[mothers[first]] == towns[mothers[second]] else "no"


def test_gold_follows_from_the_text_and_is_what_the_answer_ends_in():
    assert all(read(made.question) == made.gold == extract_entity(made.answer) for made in MADE)


def test_both_kinds_and_both_answers_are_about_equally_frequent():
    for chosen, among in (
        ([m for m in MADE if m.kind == "bridge"], MADE),
        ([m for m in MADE if m.gold == "yes"], [m for m in MADE if m.kind == "compare"]),
    ):
        assert len(chosen) / len(among) == pytest.approx(0.5, abs=3 * 0.5 / math.sqrt(len(among)))


def test_entropy_is_the_mean_surprisal_of_what_is_drawn():
    draw, count = Draw(0), 4000
    for _ in range(count):
        two_hop.question(draw)
    assert two_hop.entropy_bits() == pytest.approx(draw.surprisal / count / math.log(2), abs=0.05)


def test_splits_share_no_families_in_whatever_order_they_are_told():
    families = {
        split: {frozenset(made.families) for made in two_hop.questions(0, 300, split)}
        for split in ("train", "validation", "test")
    }
    assert not families["train"] & families["validation"]
    assert not families["train"] & families["test"]
    assert not families["validation"] & families["test"]


def test_a_split_depends_on_the_families_and_on_nothing_else():
    made = MADE[0]
    turned = two_hop.Question("other words", "", "", "compare", made.families[::-1])
    assert two_hop.split_of(turned) == two_hop.split_of(made) == "train"


def test_same_seed_same_questions_and_all_differ():
    again = two_hop.questions("tests", 400, "train")
    assert [made.question for made in again] == [made.question for made in MADE]
    assert len({made.question for made in MADE}) == 400
    assert two_hop.questions("others", 5, "train") != MADE[:5]
