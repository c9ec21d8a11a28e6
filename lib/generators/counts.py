"""Count laws: how the m samples that share a prefix choose their next tokens.

A law gives every sample of every live prefix a point in [0, 1), and the prefix's CDF turns it into a token. Where the
points of a prefix are uniform on average over its samples, given everything drawn before, averages over the samples
are unbiased, whatever the joint law of the points. What the laws differ in is that joint law:

- `Multinomial`: independent. The samples are those of separate generation, one for one.
- `Systematic`: the m points of a prefix are evenly spaced, so a token of probability p gets floor or ceil of m p
  samples (systematic resampling: Carpenter, Clifford & Fearnhead 1999). The offsets of a step's prefixes are evenly
  spaced as well, in random order (Latin hypercube sampling: McKay, Beckman & Conover 1979), so that samples which have
  parted still share out between them what they have in common. Which sample of a prefix gets which point is settled by
  the order in which they stand, so that order has to be random (`tree` shuffles it once): then any one sample follows
  the model's law too.
- `Arithmetic`: one code per sample for the whole sequence, the codes an evenly spaced lattice shifted at random
  (arithmetic sampling: Vilnis et al., arXiv 2210.15458).

One object holds the samples of B prompts, N each, numbered 0 to B N - 1; no number of one prompt depends on another's.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numba import njit

from lib.generators.decode import sample_uniforms
from lib.generators.sampling import uniforms

EPSILON = 2.0**-53
SHIFT_STREAM = 2**31  # numbers that belong to no sample: sample streams lie below
GRAIN = 2.0**-14  # of a code: fine enough for thousands of samples, coarse beside the rounding of a float32 law (2^-23)


class CountLaw(Protocol):
    """The choices of B x N samples."""

    def __init__(self, seeds: list[int], n: int, steps: int) -> None: ...

    def points(self, t: int, samples: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """float64 in [0, 1) for each entry of `samples` int64 [M] at step t; prefix d holds samples[starts[d] :
        starts[d + 1]], starts int64 [D + 1], prefixes of one prompt together.
        """

    def carry(self, t: int, samples: np.ndarray, probs: np.ndarray, within: np.ndarray) -> None:
        """Told after step t, float64 [M] each: the probability of the token each sample took, and where inside that
        token's interval of the CDF its point fell, in [0, 1).
        """


class Multinomial:
    """Independent points: sample i reads stream i of its prompt's seed, as in every row-by-row generator."""

    def __init__(self, seeds: list[int], n: int, steps: int) -> None:
        numbers = [sample_uniforms(seed, range(n), steps) for seed in seeds]
        self._u = np.ascontiguousarray(np.concatenate(numbers).T)  # [steps, B N]: a step's numbers side by side

    def points(self, t: int, samples: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return self._u[t][samples]

    def carry(self, t: int, samples: np.ndarray, probs: np.ndarray, within: np.ndarray) -> None:
        pass


class Systematic(Multinomial):
    """Evenly spaced points within a prefix, and evenly spaced offsets among the prefixes of a prompt."""

    def __init__(self, seeds: list[int], n: int, steps: int) -> None:
        super().__init__(seeds, n, steps)
        self._n = n
        self._shift = np.stack([uniforms(seed, SHIFT_STREAM, steps) for seed in seeds], axis=1)  # [steps, B]

    def points(self, t: int, samples: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return _evenly_spaced(self._u[t], self._shift[t], self._n, samples, starts)


class Arithmetic(Multinomial):
    """A sample's point is what is left of its code once the intervals of its tokens so far are zoomed in on.

    Each zoom uses up digits of the code and magnifies the rounding of the probabilities behind them; digits below the
    grain are therefore drawn anew, or a batch of another size, which rounds differently, would often draw other samples
    (it still may, where a code lies on the edge of a grain).
    """

    def __init__(self, seeds: list[int], n: int, steps: int) -> None:
        super().__init__(seeds, n, steps)
        shifts = [uniforms(seed, SHIFT_STREAM, 1)[0] for seed in seeds]
        self._codes = np.concatenate([(np.arange(n) / n + shift) % 1 for shift in shifts])
        self._grain = np.full(n * len(seeds), GRAIN)

    def points(self, t: int, samples: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return self._codes[samples]

    def carry(self, t: int, samples: np.ndarray, probs: np.ndarray, within: np.ndarray) -> None:
        grain = self._grain[samples] = np.minimum(1.0, self._grain[samples] / probs)
        below = within // grain * grain
        width = np.minimum(grain, 1 - below)  # the last cell of [0, 1) may be narrower
        self._codes[samples] = np.minimum(below + self._u[t][samples] * width, 1 - EPSILON)


@njit(cache=True)
def _evenly_spaced(u: np.ndarray, shift: np.ndarray, n: int, samples: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(j + offset) / m for the j-th of a prefix's m samples; offsets (rank + shift) / D over a prompt's D prefixes.

    u [B N] orders the prefixes by the number of each one's first sample: a random order. shift [B].
    """
    points = np.empty(len(samples))
    first = 0
    while first < len(starts) - 1:
        prompt, last = samples[starts[first]] // n, first
        while last < len(starts) - 1 and samples[starts[last]] // n == prompt:
            last += 1
        order = np.argsort(u[samples[starts[first:last]]])
        for rank in range(last - first):
            start, stop = starts[first + order[rank]], starts[first + order[rank] + 1]
            offset = (rank + shift[prompt]) / (last - first)
            for j in range(start, stop):
                points[j] = (j - start + offset) / (stop - start)
        first = last
    return points
