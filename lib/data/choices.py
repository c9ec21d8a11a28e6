"""The one door through which every random choice of a generated text goes, so that its entropy is known exactly.

A generator is a function of a `Choices`. It asks for two kinds of choice:

* `pick`, a slot: the entropy of the options is the same whatever was picked before (a name, a number from a list);
* `branch`, a structural choice: what is asked for afterwards may depend on it (an ending, how many replies).

`Draw` answers at random and adds up the surprisal -ln p of what it answered. `Walk` answers with a given list of
branches and adds up slot entropies instead; `expected_entropy` runs it along every path through the branches, which
gives the expected surprisal of the generator in closed form. As long as different answers give different texts (a test
holds this), the surprisal of a text is its negative log-probability, and no model that knows the grammar and the
world, however good, can have a lower expected loss.
"""

import math
import random
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Weighted(Generic[T]):
    """Options with unequal probabilities; `weights` need not sum to one."""

    def __init__(self, options: Sequence[T], weights: Sequence[float]) -> None:
        if len(options) != len(weights) or min(weights) <= 0:
            raise ValueError(f"{len(options)} options need as many positive weights, got {list(weights)}.")
        total = sum(weights)
        self.options = list(options)
        self.probabilities = [weight / total for weight in weights]
        self.cumulative = list(accumulate(self.probabilities))

    def entropy(self) -> float:
        """Shannon entropy in nats."""
        return -sum(p * math.log(p) for p in self.probabilities)


def zipf(options: Sequence[T], exponent: float = 0.9) -> Weighted[T]:
    """Zipf's law: the r-th option has probability proportional to r^-exponent."""
    return Weighted(options, [rank**-exponent for rank in range(1, len(options) + 1)])


Options = Sequence[T] | Weighted[T]


class Choices(Protocol):
    """What a generator sees: it asks, and is answered at random (`Draw`) or systematically (`Walk`)."""

    def pick(self, options: Options[T]) -> T:
        """Answer a slot: the entropy of `options` must not depend on earlier picks."""
        ...

    def branch(self, options: Options[T]) -> T:
        """Answer a structural choice: what follows may depend on it in any way."""
        ...


class Draw:
    """Answers at random from `seed`; `surprisal` is the sum of -ln p of the answers so far, in nats.

    Only `random.Random.random` is used: it is the one method whose stream Python promises not to change.
    """

    def __init__(self, seed: int | str) -> None:
        self.random = random.Random(seed)
        self.surprisal = 0.0

    def pick(self, options: Options[T]) -> T:
        """One of the options, at random by its probability."""
        if not isinstance(options, Weighted):
            self.surprisal += math.log(len(options))
            return options[int(self.random.random() * len(options))]
        index = min(bisect(options.cumulative, self.random.random()), len(options.options) - 1)
        self.surprisal -= math.log(options.probabilities[index])
        return options.options[index]

    def branch(self, options: Options[T]) -> T:
        """The same as `pick`: the difference matters only to `Walk`."""
        return self.pick(options)


class Walk:
    """Answers branches as told (then always with the first option) and slots with their first option.

    Attributes after a generator ran:
        branches: number of options at each branch met.
        probability: of the path taken.
        entropy: of the slots met plus the surprisal of the branches taken, in nats.
    """

    def __init__(self, path: Sequence[int] = ()) -> None:
        self.path = list(path)
        self.branches: list[int] = []
        self.probability = 1.0
        self.entropy = 0.0

    def pick(self, options: Options[T]) -> T:
        """The first option, standing for them all: their entropy is added."""
        if isinstance(options, Weighted):
            self.entropy += options.entropy()
            return options.options[0]
        self.entropy += math.log(len(options))
        return options[0]

    def branch(self, options: Options[T]) -> T:
        """The option the path names, or the first one beyond its end."""
        depth = len(self.branches)
        weighted = options if isinstance(options, Weighted) else Weighted(options, [1.0] * len(options))
        index = self.path[depth] if depth < len(self.path) else 0
        self.branches.append(len(weighted.options))
        self.probability *= weighted.probabilities[index]
        self.entropy -= math.log(weighted.probabilities[index])
        return weighted.options[index]


def expected_entropy(generate: Callable[[Choices], object]) -> float:
    """Exact expected surprisal of a generator in nats: the sum over all branch paths of p(path) times its entropy."""
    total, pending = 0.0, [[]]
    while pending:
        path = pending.pop()
        walk = Walk(path)
        generate(walk)
        total += walk.probability * walk.entropy
        taken = path + [0] * (len(walk.branches) - len(path))
        for depth in range(len(path), len(walk.branches)):
            pending += [[*taken[:depth], other] for other in range(1, walk.branches[depth])]
    return total


def several(choices: Choices, options: Sequence[T], count: int) -> list[T]:
    """`count` different options in random order: as many slots, each uniform over what is left."""
    left, taken = list(options), []
    for _ in range(count):
        taken.append(choices.pick(left))
        left.remove(taken[-1])
    return taken
