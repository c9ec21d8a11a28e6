"""HotpotQA, distractor setting: questions over two Wikipedia paragraphs among ten (Yang et al. 2018), 90,447 to train
and 7,405 to validate.

Rows come from the hub's `hotpotqa/hotpot_qa`, a folder saved by `datasets`, or the official file
(hotpot_dev_distractor_v1.json). The two differ in layout: the file has a list of [title, sentences] where `datasets`
has parallel lists of titles and of sentences.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lib.data import rows
from lib.data.rows import DataError

HUB = rows.HubSet("hotpotqa/hotpot_qa", "distractor", ("train", "validation"))
Context = Literal["gold", "full", "none"]
LAYOUT = "lay them out as hotpot_dev_distractor_v1.json or `datasets` does"


@dataclass(frozen=True)
class Row:
    """One question: `context` is what may be read, one paragraph per line with its title in front.

    `gold` is the answer without white space around it; `kind` is "bridge" or "comparison", `level` "easy", "medium"
    or "hard".
    """

    question: str
    context: str
    answer: str
    gold: str
    kind: str
    level: str


def load(path: str | Path | None = None, split: str = "validation", context: Context = "gold") -> list[Row]:
    """The rows of a split ("train" or "validation") in order; of all rows of `path` where that is a file (one split).

    `context`: "gold" for the paragraphs that hold supporting facts, "full" for all ten, both in the order of the data,
    or "none" for an empty one.

    Raises:
        DataError: in one sentence, where the set cannot be had, or naming the row that cannot be used.
    """
    if context not in get_args(Context):
        raise DataError(f"The context {context!r} is unknown: choose one of {', '.join(get_args(Context))}.")
    loaded = []
    for place, row in rows.read(path, split, HUB):
        try:
            loaded.append(_row(row, context))
        except DataError as reason:
            raise rows.unusable(place, reason) from None
    return loaded


def _row(row: dict[str, Any], context: Context) -> Row:
    answer = rows.text(row, "answer")
    kind, level = rows.text(row, "type"), rows.text(row, "level")
    return Row(rows.text(row, "question"), _context(row, context), answer, answer.strip(), kind, level)


def _context(row: dict[str, Any], context: Context) -> str:
    if context == "none":
        return ""
    try:
        # Sentences keep the space in front of them, so that nothing has to be put between.
        found = [(title, "".join(sentences).strip()) for title, sentences in _pairs(row["context"], "sentences")]
        facts = _pairs(row["supporting_facts"], "sent_id") if context == "gold" else found
        wanted = {title for title, _ in facts}
    except (TypeError, KeyError, ValueError):
        raise DataError(f"its paragraphs or supporting facts cannot be read: {LAYOUT}") from None
    if missing := wanted - {title for title, _ in found}:
        raise DataError(
            f"the supporting paragraph {min(missing)!r} is not in its context: use the distractor setting's file"
        )
    return "\n".join(f"{title}: {text}" for title, text in found if title in wanted)


def _pairs(value: Any, second: str) -> Iterable[tuple[str, Any]]:
    """(title, sentences or number) of either layout; TypeError, KeyError or ValueError of any other."""
    pairs = zip(value["title"], value[second], strict=True) if isinstance(value, dict) else value
    return [(title, other) for title, other in pairs]
