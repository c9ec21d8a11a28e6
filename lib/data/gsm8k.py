"""GSM8K: grade-school word problems with worked answers (Cobbe et al. 2021), 7,473 to train and 1,319 to test.

Rows come from the hub's `openai/gsm8k`, a folder saved by `datasets`, or a local JSON file of question/answer rows.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from lib.data import rows
from lib.data.rows import DataError

HUB = rows.HubSet("openai/gsm8k", "main", ("train", "test"))
GOLD = re.compile(r"####\s*\$?(-?[0-9][0-9,]*(?:\.[0-9]+)?)\s*$")


@dataclass(frozen=True)
class Row:
    """One problem: `answer` holds the worked steps and ends in `#### ` and the number; `gold` is that number.

    `gold` has neither thousands commas nor idle zeros, so equal numbers are equal texts: "1018".
    """

    question: str
    answer: str
    gold: str


def load(path: str | Path | None = None, split: str = "test") -> list[Row]:
    """The rows of a split ("train" or "test") in order; of all rows of `path` where that is a file (one split).

    Raises:
        DataError: in one sentence, where the set cannot be had, or naming the row that has no readable gold.
    """
    loaded = []
    for place, row in rows.read(path, split, HUB):
        try:
            question, answer = rows.text(row, "question"), rows.text(row, "answer")
            loaded.append(Row(question, answer, _gold(answer)))
        except DataError as reason:
            raise rows.unusable(place, reason) from None
    return loaded


def _gold(answer: str) -> str:
    found = GOLD.search(answer)
    if found is None:
        raise DataError("its `answer` does not end in '#### ' and a number: end it as GSM8K's answers end")
    return format(Decimal(found.group(1).replace(",", "")).normalize(), "f")
