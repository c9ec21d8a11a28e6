"""Short stories with real choice points: somebody finds a thing, a friend comes by, they talk, something happens.

Who, where, what, the weather, the replies and the turn of events are choices; towns, jobs, pets and the colours of
things follow from the fixed world and must be remembered, names and things come back from sentence to sentence. Stories
have 12 to 18 sentences (about 170 to 280 tokens), so that a prompt of 200 tokens can end inside one.
"""

from collections.abc import Callable

from lib.data.choices import Choices, Weighted, several, zipf
from lib.data.world import PEOPLE, PERSON, PLACE, Person, a

TIMES = zipf(["morning", "evening", "afternoon", "day", "night", "Sunday", "Monday", "Friday"])
WEATHERS = zipf(["sunny", "rainy", "windy", "cold", "foggy", "warm", "stormy", "snowy"])
PLACES = zipf(list(PLACE.values()), 0.6)
MOVES = zipf(["walked", "went", "ran", "cycled", "hurried"])
FAME = ["everybody there knew {o}", "{s} loved the work", "{s} was never late", "{s} worked hard every day"]
PET_WITH = ["running ahead", "as always", "full of joy", "looking for food"]
PET_AWAY = ["asleep", "ill", "eating", "hiding"]
SPOTS = zipf(["the gate", "the wall", "a big tree", "the stairs", "the well", "a bench", "the fence", "the bridge"])
FEELINGS = zipf(["happy", "curious", "surprised", "proud", "nervous", "glad"])
MANNERS = zipf(["quietly", "slowly", "with a smile", "at once", "loudly", "after a while"])
ARRIVALS = ["came by", "came around the corner", "called from far away", "sat down next to {o}"]
# Every question has four answers of equal probability, so which question is asked is a slot and not a branch.
TALK = {
    "Whose {t} is that?": ["I have no idea", "Maybe it is mine now", "Nobody knows", "It must be very old"],
    "Where was the {t}?": ["Under the leaves", "Right over there", "In the grass", "Behind some stones"],
    "Can I hold the {t}?": ["Of course you can", "Only for a minute", "Please be careful", "Not with wet hands"],
    "Is the {t} broken?": ["It looks fine to me", "Only a little", "I can repair it", "I hope not"],
    "Do you like the {t}?": ["I like it a lot", "It is too {c} for me", "I will never sell it", "Not really"],
    "What will you do with the {t}?": ["I will clean it first", "We should ask around", "Let us wait", "Who knows"],
}
TRANSPORT = ["by bus", "by boat", "on foot", "by train"]
GIFTS = zipf(["a loaf of bread", "a jar of honey", "two apples", "a bag of nuts", "a cup of tea", "some cheese"])
KEEPING = ["on a shelf", "in the kitchen", "under the bed", "near the window"]
THIEVES = zipf(["a crow", "a fox", "a monkey", "a goose", "a big dog"])
HIDEOUTS = ["into the woods", "over the hills", "down the river", "up a tree"]
HOURS = ["two hours", "three hours", "all day", "until dark"]
DAYS = zipf(["wonderful", "strange", "long", "lucky", "funny", "hard"])


def sentences(choices: Choices) -> list[str]:
    """One story as its 12 to 18 sentences."""
    pick = choices.pick
    hero = pick(PEOPLE)
    friend, place = PERSON[hero.friend], pick(PLACES)
    told = [f"On a {pick(WEATHERS)} {pick(TIMES)}, {hero.name} {pick(MOVES)} to {place.name}."]
    fame = pick(FAME).format(o=hero.object, s=hero.subject)
    told.append(f"{hero.name} was {a(hero.job)} from {hero.town}, and {fame}.")
    told.append(_pet(choices, hero))
    colour, thing = pick(place.things)
    told.append(f"Near {pick(SPOTS)}, {hero.name} found {a(colour)} {thing}.")
    told.append(f"{hero.subject.capitalize()} was {pick(FEELINGS)} and looked at the {thing} {pick(MANNERS)}.")
    arrival = pick(ARRIVALS).format(o=hero.object)
    told.append(f"Then {hero.possessive} friend {friend.name}, {a(friend.job)} from {friend.town}, {arrival}.")
    told += _talk(choices, hero, friend, colour, thing)
    others = [person for person in PEOPLE if person not in (hero, friend)]
    told.append(f"At noon they shared {pick(GIFTS)} near {pick(SPOTS)} and talked about {pick(others).name}.")
    turn = choices.branch(Weighted([_returned, _kept, _stolen], [4, 3, 3]))
    told += turn(choices, hero, friend, thing)
    told.append(f"In the evening, {hero.name} went home to {hero.town} and {hero.hobby}.")
    return told + _ending(choices, hero, colour, thing)


def _pet(choices: Choices, hero: Person) -> str:
    if choices.branch(["along", "at home"]) == "along":
        return f"{hero.possessive.capitalize()} {hero.pet} {hero.pet_name} came along, {choices.pick(PET_WITH)}."
    return f"{hero.possessive.capitalize()} {hero.pet} {hero.pet_name} was at home, {choices.pick(PET_AWAY)}."


def _talk(choices: Choices, hero: Person, friend: Person, colour: str, thing: str) -> list[str]:
    rounds = choices.branch(Weighted([1, 2, 3], [1, 2, 2]))
    told = []
    for question in several(choices, list(TALK), rounds):
        answer = choices.pick(TALK[question])
        told.append(f'"{question.format(t=thing)}" asked {friend.name}.')
        told.append(f'"{answer.format(c=colour)}," said {hero.name} {choices.pick(MANNERS)}.')
    return told


def _returned(choices: Choices, hero: Person, friend: Person, thing: str) -> list[str]:
    owner = choices.pick([person for person in PEOPLE if person not in (hero, friend)])
    return [
        f"The {thing} belonged to {owner.name}, the {owner.job} from {owner.town}.",
        f"{hero.name} and {friend.name} went there {choices.pick(TRANSPORT)} to bring the {thing} back.",
        f"{owner.name} thanked them and gave them {choices.pick(GIFTS)}.",
    ]


def _kept(choices: Choices, hero: Person, friend: Person, thing: str) -> list[str]:
    return [
        f"They asked everybody, but nobody was missing the {thing}, so {hero.name} could keep it.",
        f"{hero.subject.capitalize()} put the {thing} {choices.pick(KEEPING)}, next to {choices.pick(GIFTS)}.",
    ]


def _stolen(choices: Choices, hero: Person, friend: Person, thing: str) -> list[str]:
    thief = choices.pick(THIEVES)
    return [
        f"Suddenly {thief} took the {thing} and ran away {choices.pick(HIDEOUTS)}.",
        f"{hero.name} and {friend.name} searched for {choices.pick(HOURS)}, but the {thing} was gone.",
    ]


def _ending(choices: Choices, hero: Person, colour: str, thing: str) -> list[str]:
    others = [person for person in PEOPLE if person != hero]
    endings: list[Callable[[], list[str]]] = [
        lambda: [f'"What a {choices.pick(DAYS)} day," said {hero.name} to the {hero.pet} {choices.pick(MANNERS)}.'],
        lambda: [f"That night {hero.subject} dreamed of {a(colour)} {thing} and of {choices.pick(PLACES).name}."],
        lambda: [
            f"The next {choices.pick(TIMES)}, {hero.name} told {choices.pick(others).name} about the {colour} {thing}.",
            f"It had been a {choices.pick(DAYS)} day.",
        ],
    ]
    return choices.branch(endings)()
