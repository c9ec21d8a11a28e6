"""Count laws: how the m samples that share a prefix choose their next tokens.

A law gives every sample of every live prefix a point in [0, 1); the prefix's CDF turns it into a token. If each point
is uniform given everything drawn so far (`Arithmetic`: given the sample's own tokens so far), each sample follows the
model's law, and averages over the samples are unbiased, whatever the joint law of the points. What the laws differ in
is that joint law:

- `Multinomial`: independent. The samples are those of separate generation, one for one.
- `Systematic`: the m points of a prefix are evenly spaced, so a token of probability p gets floor or ceil of m p samples
  (systematic resampling: Carpenter, Clifford & Fearnhead 1999); the offsets of the step's prefixes are evenly spaced as
  well, in random order (Latin hypercube sampling: McKay, Beckman & Conover 1979), so samples that have parted still share
  out what they have in common.
- `Arithmetic`: one code per sample for the whole sequence, the codes an evenly spaced lattice shifted at random
  (arithmetic sampling: Vilnis et al., arXiv 2210.15458).
"""

from __future__ import annotations

import math
from typing import Protocol

from lib.generators.decode import sample_uniforms
from lib.generators.sampling import uniforms

SHIFT_STREAM = 2**31  # numbers that belong to no sample; sample streams lie below
BITS = 2.0**-52  # what a float64 in [0, 1) can tell apart


class CountLaw(Protocol):
    """The choices of one prompt's N samples."""

    def __init__(self, seed: int, n: int, steps: int) -> None: ...

    def points(self, t: int, prefixes: list[list[int]]) -> list[list[float]]:
        """A point in [0, 1) for each sample (numbered from 0) of each live prefix at step t."""

    def carry(self, samples: list[int], logprobs: list[float], within: list[float]) -> None:
        """Told after a step, one prefix at a time: ln p of each sample's token, and where inside the token's interval of
        the CDF the point fell, in [0, 1).
        """


class Multinomial:
    """Independent points: sample i reads stream i of the prompt's seed, as every row-by-row generator does."""

    def __init__(self, seed: int, n: int, steps: int) -> None:
        self._u = sample_uniforms(seed, range(n), steps).T.tolist()

    def points(self, t: int, prefixes: list[list[int]]) -> list[list[float]]:
        return [[self._u[t][sample] for sample in samples] for samples in prefixes]

    def carry(self, samples: list[int], logprobs: list[float], within: list[float]) -> None:
        pass


class Systematic(Multinomial):
    """Evenly spaced points within a prefix and evenly spaced offsets among prefixes."""

    def __init__(self, seed: int, n: int, steps: int) -> None:
        super().__init__(seed, n, steps)
        self._shift = uniforms(seed, SHIFT_STREAM, steps).tolist()

    def points(self, t: int, prefixes: list[list[int]]) -> list[list[float]]:
        order = sorted(range(len(prefixes)), key=lambda v: self._u[t][prefixes[v][0]])  # random: by independent numbers
        made: list[list[float]] = [[] for _ in prefixes]
        for rank, v in enumerate(order):
            offset = (rank + self._shift[t]) / len(order)
            m = len(prefixes[v])
            made[v] = [(j + offset) / m for j in range(m)]
        return made


class Arithmetic:
    """A sample's point is what is left of its code once its earlier tokens' intervals are zoomed in on.

    Each zoom uses up bits of the code; below what a float64 still tells, fresh random ones are appended.
    """

    def __init__(self, seed: int, n: int, steps: int) -> None:
        shift = uniforms(seed, SHIFT_STREAM, 1)[0]
        self._codes = [(i / n + shift) % 1 for i in range(n)]
        self._grain = [BITS] * n
        self._fresh = sample_uniforms(seed, range(n), steps).tolist()
        self._step = [0] * n

    def points(self, t: int, prefixes: list[list[int]]) -> list[list[float]]:
        return [[self._codes[sample] for sample in samples] for samples in prefixes]

    def carry(self, samples: list[int], logprobs: list[float], within: list[float]) -> None:
        for sample, logprob, rest in zip(samples, logprobs, within, strict=True):
            grain = self._grain[sample] = min(1.0, self._grain[sample] * math.exp(-logprob))
            fresh = self._fresh[sample][self._step[sample]]
            self._step[sample] += 1
            self._codes[sample] = min((rest // grain + fresh) * grain, 1 - BITS)
