"""The small fixed world that stories and questions are about: who lives where with which pet, what lies at which place.

Facts are drawn once from a constant seed, so every corpus of every seed speaks about the same world. It is small on
purpose: a model of a hundred thousand weights can learn it from half a million tokens, and what a model has not
learned of it shows in its loss above the entropy of the text, which takes the world as known.
"""

from dataclasses import dataclass

from lib.data.choices import Draw, several

SHE = [
    "Ada",
    "Berta",
    "Clara",
    "Dora",
    "Elsa",
    "Freya",
    "Greta",
    "Hilda",
    "Ida",
    "Jana",
    "Kira",
    "Lena",
    "Mara",
    "Nora",
    "Olga",
    "Petra",
]
HE = [
    "Adam",
    "Bruno",
    "Carl",
    "David",
    "Emil",
    "Felix",
    "Georg",
    "Hugo",
    "Ivan",
    "Jonas",
    "Karl",
    "Leo",
    "Max",
    "Nils",
    "Oscar",
    "Paul",
]
TOWNS = [
    "Arden",
    "Brook",
    "Colby",
    "Dalton",
    "Easton",
    "Fenwick",
    "Garth",
    "Hadley",
    "Kirby",
    "Lorton",
    "Milton",
    "Selby",
]
JOBS = [
    "baker",
    "carpenter",
    "doctor",
    "farmer",
    "fisher",
    "gardener",
    "miller",
    "nurse",
    "painter",
    "pilot",
    "singer",
    "teacher",
]
PETS = ["cat", "dog", "goat", "hen", "horse", "parrot", "rabbit", "turtle"]
PET_NAMES = [
    "Biscuit",
    "Button",
    "Clover",
    "Coco",
    "Daisy",
    "Ginger",
    "Marble",
    "Misty",
    "Pepper",
    "Pickle",
    "Rusty",
    "Shadow",
]
COLOURS = ["red", "blue", "green", "yellow", "black", "white", "brown", "silver"]
HOBBIES = [
    "played chess",
    "read a book",
    "baked bread",
    "painted a picture",
    "sang old songs",
    "wrote letters",
    "built a kite",
    "knitted",
]
THINGS = [
    "key",
    "lamp",
    "coin",
    "ring",
    "bottle",
    "basket",
    "drum",
    "mirror",
    "kettle",
    "scarf",
    "umbrella",
    "map",
    "clock",
    "whistle",
    "box",
    "bell",
    "hat",
    "spoon",
    "rope",
    "book",
    "candle",
    "flute",
    "glove",
    "compass",
]
PLACES = [
    "the market",
    "the harbour",
    "the forest",
    "the old mill",
    "the library",
    "the station",
    "the castle",
    "the lake",
]
THINGS_PER_PLACE = 4


@dataclass(frozen=True)
class Person:
    """One inhabitant; `friend` is the name of another."""

    name: str
    she: bool
    town: str
    job: str
    pet: str
    pet_name: str
    hobby: str
    friend: str

    @property
    def subject(self) -> str:
        """ "she" or "he"."""
        return "she" if self.she else "he"

    @property
    def object(self) -> str:
        """ "her" or "him"."""
        return "her" if self.she else "him"

    @property
    def possessive(self) -> str:
        """ "her" or "his"."""
        return "her" if self.she else "his"


@dataclass(frozen=True)
class Place:
    """A place where `things` of one fixed colour each can be found."""

    name: str
    things: tuple[tuple[str, str], ...]  # (colour, thing)


def _people() -> dict[str, Person]:
    draw = Draw("the people of the world")
    ring = several(draw, SHE + HE, len(SHE + HE))  # each is the friend of the one before, so nobody is their own
    people = {}
    for name, friend in zip(ring, ring[1:] + ring[:1], strict=True):
        facts = [draw.pick(options) for options in (TOWNS, JOBS, PETS, PET_NAMES, HOBBIES)]
        people[name] = Person(name, name in SHE, *facts, friend)
    return dict(sorted(people.items()))


def _places() -> dict[str, Place]:
    draw = Draw("the places of the world")
    places = {}
    for name in PLACES:
        things = several(draw, THINGS, THINGS_PER_PLACE)
        places[name] = Place(name, tuple((draw.pick(COLOURS), thing) for thing in things))
    return places


PERSON = _people()
PLACE = _places()
PEOPLE = tuple(PERSON.values())


def a(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
