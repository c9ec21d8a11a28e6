"""Two-hop questions whose evidence stands in the context: films, who directed them, where the directors were born.

Kinds:

* `bridge`: "In which town was the director of X born?" needs film -> director -> town, and answers with the town;
* `compare`: "Were the directors of X and Y born in the same town?" needs two such chains, and answers yes or no.

Who directed what and who was born where is drawn anew for each question: nothing can be known from the world, all of
it must be read. The sentences of the context are shuffled. As in `arithmetic`, answers show the hops and end in
`#### gold`.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from lib.data.choices import Choices, Draw, Weighted, several
from lib.data.world import COLOURS, HE, SHE, THINGS, TOWNS

Kind = Literal["bridge", "compare"]
KINDS: tuple[Kind, ...] = ("bridge", "compare")
FILMS = 3  # per context: two that a comparison needs and at least one distractor
TITLES = [f"The {colour.capitalize()} {thing.capitalize()}" for colour in COLOURS for thing in THINGS]
# Which film is asked about, and the rest in order: one option per film.
ROTATIONS = [(film, (film + 1) % FILMS, (film + 2) % FILMS) for film in range(FILMS)]
# Orders of the context's sentences (films, then births) that keep the films in order.
ARRANGEMENTS = [order for order in permutations(range(2 * FILMS)) if [i for i in order if i < FILMS] == [0, 1, 2]]


@dataclass(frozen=True)
class Question:
    """One row: `evidence` holds the sentences of `context` that the answer needs."""

    context: str
    question: str
    answer: str
    gold: str
    kind: Kind
    evidence: tuple[str, ...]


def question(choices: Choices, kind: Kind) -> Question:
    """One question of a kind over a freshly drawn context, with every random choice through `choices`.

    Films are drawn in the order in which the context tells them, so that no two derivations give the same text.
    """
    titles, people = several(choices, TITLES, FILMS), several(choices, SHE + HE, FILMS)
    first, second, third = choices.pick(list(permutations(range(FILMS))) if kind == "compare" else ROTATIONS)
    towns = _towns(choices, kind, first, second, third)
    films = [f'"{title}" was directed by {name}.' for title, name in zip(titles, people, strict=True)]
    births = [f"{name} was born in {town}." for name, town in zip(people, towns, strict=True)]
    context = " ".join((films + births)[index] for index in choices.pick(ARRANGEMENTS))
    hops = [f'"{title}": {name}, {town}.' for title, name, town in zip(titles, people, towns, strict=True)]
    if kind == "bridge":
        asked, gold, used = f'In which town was the director of "{titles[first]}" born?', towns[first], [first]
    else:
        asked = f'Were the directors of "{titles[first]}" and "{titles[second]}" born in the same town?'
        gold, used = ("yes" if towns[first] == towns[second] else "no"), [first, second]
    answer = "\n".join([*(hops[index] for index in used), f"#### {gold}"])
    evidence = tuple(films[index] for index in used) + tuple(births[index] for index in used)
    return Question(context, asked, answer, gold, kind, evidence)


def _towns(choices: Choices, kind: Kind, first: int, second: int, third: int) -> list[str]:
    """Birth towns by film. Half of the comparisons agree; in most others the distractor shares a town with one side."""
    pairs = [(first, second), (first, third), (second, third), ()]
    shared = choices.branch(Weighted(pairs, [50, 15, 15, 20])) if kind == "compare" else ()
    towns = several(choices, TOWNS, FILMS if not shared else FILMS - 1)
    if not shared:
        return towns
    return [towns[0] if film in shared else towns[1] for film in range(FILMS)]


def questions(seed: int | str, count: int, kind: Kind) -> list[Question]:
    """`count` random questions of a kind, the same for the same seed."""
    draw = Draw(seed)
    return [question(draw, kind) for _ in range(count)]
