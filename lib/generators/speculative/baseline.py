"""No draft at all: ordinary decoding through the same loop, which every other method is measured against."""

from __future__ import annotations

from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.drafting import Draft, Parts, Rows, Stateless


class Baseline(Stateless):
    """Drafts nothing."""

    name = "baseline"
    ahead = 0

    def propose(self, rows: Rows, room: int) -> Draft:
        return Draft.nothing(len(rows))


def drafter(speculation: Speculation, decoding: Decoding, parts: Parts) -> Baseline:
    return Baseline()
