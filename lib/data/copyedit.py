"""Tasks whose answer is mostly copied from the prompt: repeat a passage, replace a word in it, quote a speaker.

This is the home ground of drafting by n-gram lookup, and of nothing else: words are drawn independently, so what is not
copied cannot be guessed.

Kinds: `list` (say a list of words again), `repeat` (a passage word by word), `edit` (the passage with every occurrence
of one thing replaced by another), `quote` (what one of three speakers said). Lists are the easiest, each word following
one other, and are what a small model learns to copy from: without them it has not begun after half a million tokens.
"""

import re
from dataclasses import dataclass
from typing import Literal

from lib.data.choices import Choices, Draw, several
from lib.data.world import COLOURS, JOBS, PEOPLE, PETS, PLACES, THINGS, TOWNS

Kind = Literal["list", "repeat", "edit", "quote"]
KINDS: tuple[Kind, ...] = ("list", "repeat", "edit", "quote")
VERBS = ["found", "lost", "sold", "bought", "cleaned", "painted", "hid", "broke"]
NOTES = 3  # sentences per passage
WORDS = THINGS + COLOURS + TOWNS + JOBS + PETS
LISTED = 20  # words per list


@dataclass(frozen=True)
class Task:
    """One row: `answer` is the expected text, a copy of `passage` or of a part of it."""

    instruction: str
    passage: str
    answer: str
    kind: Kind


def task(choices: Choices, kind: Kind) -> Task:
    """One task of a kind, with every random choice through `choices`."""
    if kind == "list":
        words = " ".join(several(choices, WORDS, LISTED))
        return Task("Say these words again.", words, words, kind)
    names = [person.name for person in several(choices, PEOPLE, NOTES)]
    things = several(choices, THINGS, NOTES)
    notes = [_note(choices, name, thing) for name, thing in zip(names, things, strict=True)]
    if kind == "quote":
        speaker = choices.pick(range(NOTES))
        passage = " ".join(f'{name} says: "{note}"' for name, note in zip(names, notes, strict=True))
        return Task(f"What does {names[speaker]} say?", passage, f'"{notes[speaker]}"', kind)
    passage = " ".join(notes)
    if kind == "repeat":
        return Task("Repeat the text word for word.", passage, passage, kind)
    old = choices.pick(things)
    new = choices.pick([thing for thing in THINGS if thing not in things])
    return Task(f'Write the text again with "{new}" for "{old}".', passage, re.sub(rf"\b{old}\b", new, passage), kind)


def _note(choices: Choices, name: str, thing: str) -> str:
    colour, verb, place = choices.pick(COLOURS), choices.pick(VERBS), choices.pick(PLACES)
    friend = choices.pick([person.name for person in PEOPLE if person.name != name])
    return f"{friend} {verb} the {colour} {thing} at {place}, and {name} was told about the {thing}."


def tasks(seed: int | str, count: int, kind: Kind) -> list[Task]:
    """`count` random tasks of a kind, the same for the same seed."""
    draw = Draw(seed)
    return [task(draw, kind) for _ in range(count)]
