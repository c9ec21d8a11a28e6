"""What speculative decoding is measured on: requests from a JSONL file, or the embedded ones from our own generators.

A file has one JSON object per line with `prompt` (a text) or, as in Spec-Bench, `turns` (what the user says, turn by
turn); `id` (or `question_id`) and `category` are optional and every other key is ignored. Every error names its line.

The embedded requests cover seven categories by turns, so that every first so many of them are balanced: from `story`,
where next to nothing can be copied from the prompt, over `math` and `qa`, to `quote`, `list`, `repeat` and `edit`,
where the answer is a copy. All are held out: none is a chat that the training stream of `lib.data.corpus` may hold.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.data import arithmetic, copyedit, corpus, multihop, stories
from lib.data.choices import Draw

DEFAULT_CATEGORY = "uncategorised"
EXPECTED = 'one JSON object per line, such as {"prompt": "...", "category": "qa"}'


class BenchmarkError(ValueError):
    """A benchmark file that cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Request:
    """One request: what the user says in each turn and, where there is one right answer to the last, the answer."""

    id: str
    category: str
    turns: tuple[str, ...]
    reference: str | None = None


def load(path: str | Path) -> list[Request]:
    """The requests of a JSONL file (UTF-8, with or without a byte order mark; blank lines are skipped), in order.

    Raises:
        BenchmarkError: in one sentence, with the number of the line, for anything that cannot be read as said above.
    """
    lines: dict[str, int] = {}
    requests = []
    # Not splitlines(): it also splits at U+2028 and the like, which may stand inside a JSON string.
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            request = _request(line, f"entry_{number}")
            if request.id in lines:
                raise BenchmarkError(
                    f"the id {request.id!r} is that of line {lines[request.id]} already: ids must differ"
                )
        except BenchmarkError as error:
            raise BenchmarkError(f"Line {number} of benchmark {str(path)!r} cannot be used, because {error}.") from None
        lines[request.id] = number
        requests.append(request)
    if not requests:
        raise BenchmarkError(f"Benchmark {str(path)!r} is empty: give it {EXPECTED}.")
    return requests


def _text(path: str | Path) -> str:
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        advice = f"give the path of a file with {EXPECTED}, or leave it out to use the embedded requests"
        raise BenchmarkError(f"There is no benchmark file {str(path)!r}: {advice}.") from None
    except OSError as error:
        raise BenchmarkError(
            f"Benchmark {str(path)!r} cannot be read ({error.strerror}): give a file you can read."
        ) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw[: error.start].count(b"\n") + 1
        where = f"Line {number} of benchmark {str(path)!r}"
        raise BenchmarkError(f"{where} is not UTF-8: save the file as UTF-8.") from None


def _request(line: str, default_id: str) -> Request:
    """One line as a request; BenchmarkError with the reason, as the end of a sentence."""
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()  # refuses halves of characters, which no tokenizer takes
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"it is not JSON ({error}): write {EXPECTED}") from None
    if not isinstance(row, dict):
        raise BenchmarkError(f"it is not an object: write {EXPECTED}")
    name = row.get("id", row.get("question_id", default_id))
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise BenchmarkError(f"its id is {_shown(name)}: give a text or a whole number, or leave it out")
    category = row.get("category", DEFAULT_CATEGORY)
    if not isinstance(category, str) or not category.strip():
        raise BenchmarkError(f"its category is {_shown(category)}: give a text, or leave it out")
    return Request(str(name), category, _turns(row))


def _turns(row: dict) -> tuple[str, ...]:
    if ("prompt" in row) == ("turns" in row):
        found = "both `prompt` and `turns`" if "prompt" in row else "neither `prompt` nor `turns`"
        raise BenchmarkError(f"it has {found}: give a text as `prompt`, or a list of texts as `turns`")
    key, turns = ("prompt", [row["prompt"]]) if "prompt" in row else ("turns", row["turns"])
    if not isinstance(turns, list) or not turns:
        raise BenchmarkError(f"`turns` is {_shown(turns)}: give a list of at least one text")
    for turn in turns:
        if not isinstance(turn, str) or not turn.strip():
            where = "`prompt` is" if key == "prompt" else "a turn in `turns` is"
            raise BenchmarkError(f"{where} {_shown(turn)}: give a text that says something")
    return tuple(turns)


def _shown(value: object) -> str:
    """A wrong value as it stands in the file, shortened."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _story(draw: Draw) -> tuple[str, str]:
    told = stories.sentences(draw)
    cut = draw.pick(range(3, len(told) - 2))
    return f"{draw.pick(corpus.CONTINUE)}\n\n{' '.join(told[:cut])}", " ".join(told[cut:])


def _math(draw: Draw) -> tuple[str, str]:
    made = arithmetic.problem(draw, draw.pick(arithmetic.KINDS), "heldout")
    return made.question, made.answer


def _qa(draw: Draw) -> tuple[str, str]:
    made = multihop.question(draw, draw.pick(multihop.KINDS))
    return f"{made.context}\n\n{made.question}", made.answer


def _copied(kind: copyedit.Kind) -> Callable[[Draw], tuple[str, str]]:
    def write(draw: Draw) -> tuple[str, str]:
        made = copyedit.task(draw, kind)
        return f"{made.instruction}\n\n{made.passage}", made.answer

    return write


# Request and reply of a category, worded as the training corpus words them.
WRITERS: dict[str, Callable[[Draw], tuple[str, str]]] = {
    "story": _story,
    "math": _math,
    "qa": _qa,
    **{kind: _copied(kind) for kind in copyedit.KINDS},
}
CATEGORIES = tuple(WRITERS)


def embedded(count: int, seed: int) -> list[Request]:
    """`count` held-out requests of one turn, the categories by turns; the first ones stay the same when more are asked.

    All but stories, which can go on in many ways, have a reference: the answer as the generators write it.
    """
    fresh = [_requests(category, seed) for category in CATEGORIES]
    return [next(fresh[index % len(fresh)]) for index in range(count)]


def _requests(category: str, seed: int) -> Iterator[Request]:
    """Endless different requests of a category."""
    draw, seen = Draw(f"benchmark {seed} {category}"), set()
    while True:
        text, reply = WRITERS[category](draw)
        if text not in seen and corpus.stream_of(corpus.chat(text, reply)) == "validation":
            seen.add(text)
            yield Request(f"{category}_{seed}_{len(seen)}", category, (text,), None if category == "story" else reply)
