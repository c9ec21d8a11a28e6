"""Request by request: the baseline and the method in random order on the same prompts.

A conversation goes on with what the first arm answered, so that every arm sees the same second turn. A prompt too long
for the model loses its middle, which is said.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from lib.data import benchmark, prompts
from lib.generators.speculative.common import Arm, Response
from lib.metrics import acceptance, lossless
from lib.specdec.target import Target

PROTOCOL = "latency"


@dataclass(eq=False)
class Asked:
    """One turn of a request as the model reads it, and what each arm answered (its first pass)."""

    prompt: int  # counts turns of all requests
    request: benchmark.Request
    turn: int
    ids: list[int]
    cut: int  # tokens taken out of the middle
    answers: dict[str, Response] = field(default_factory=dict)


@dataclass(frozen=True)
class Timed:
    """One timed pass of one arm over one turn."""

    asked: Asked
    arm: str
    response: Response
    repeat: int
    order: int

    def row(self, target: Target) -> dict[str, Any]:
        """The measurement row; `token_equal` only where there is a greedy baseline beside it."""
        asked, answer, count = self.asked, self.response, len(self.response.tokens)
        baseline = asked.answers.get("baseline")
        compared = baseline is not None and target.decoding.greedy
        split = lossless.divergence(baseline.tokens, answer.tokens) if compared else None
        return target.about | {
            "protocol": PROTOCOL,
            "arm": self.arm,
            "prompt": asked.prompt,
            "id": asked.request.id,
            "category": asked.request.category,
            "turn": asked.turn,
            "cut": asked.cut,
            "repeat": self.repeat,
            "order": self.order,
            "batch_size": target.params.batch_size,
            "prompt_tokens": len(asked.ids),
            "new_tokens": count,
            "first": answer.first,
            "total_tokens": len(asked.ids) + count,
            **{name: getattr(answer, name) for name in ("wall_s", "prefill_s", "decode_s", "draft_s", "verify_s")},
            "s_per_token": answer.wall_s / count,
            "tokens_per_s": count / answer.wall_s,
            **self._counts(target),
            "prompt_overlap": acceptance.prompt_overlap(asked.ids, answer.tokens),
            "token_equal": (split is None) if compared else None,
            "first_divergence": split,
        }

    def _counts(self, target: Target) -> dict[str, Any]:
        """What the steps did; of a tree, whose drafted tokens are nodes, positions are depths."""
        drafted, accepted = cropped(self.response)
        longest = target.params.num_speculative_tokens
        if self.arm == target.params.method and target.params.tree_width > 1:
            depths = [min(nodes, longest) for nodes in drafted]
            return acceptance.describe(depths, accepted, longest) | {"drafted": sum(drafted)}
        return acceptance.describe(drafted, accepted, max([longest, *drafted]))  # a hybrid's lookups are longer

    def record(self, target: Target) -> dict[str, Any]:
        """What was generated, for responses.jsonl."""
        answer = self.response
        drafted, accepted = cropped(answer)
        return {
            "prompt": self.asked.prompt,
            "id": self.asked.request.id,
            "turn": self.asked.turn,
            "arm": self.arm,
            "text": target.tokenizer.decode(answer.tokens, skip_special_tokens=True),
            "tokens": answer.tokens,
            "drafted": drafted,
            "accepted": accepted,
        }


def cropped(response: Response) -> tuple[list[int], list[int]]:
    """Drafted and accepted tokens per step without what lies behind the end of the output."""
    return acceptance.crop(response.drafted, response.accepted, len(response.tokens), response.first)


def requests(target: Target) -> list[benchmark.Request]:
    """The first `requests` of the benchmark file, or so many of the project's own."""
    params = target.params
    if not params.benchmark:
        return benchmark.embedded(params.requests, params.seed)
    found = benchmark.load(params.benchmark)
    return found[: params.requests] if params.requests else found


def encode(target: Target, turns: Sequence[str]) -> tuple[list[int], int]:
    """A conversation as token ids that leave room for the answer, and how many had to be cut."""
    return prompts.fit(prompts.encode_chat(target.tokenizer, turns), target.context - target.params.max_new_tokens)


def run(target: Target, arms: Sequence[Arm], asked: Sequence[benchmark.Request]) -> Iterator[Timed]:
    """Every arm on every turn of every request, `batch_size` requests at a time; progress on stderr."""
    order, cut, count = random.Random(target.params.seed), 0, sum(len(request.turns) for request in asked)
    _warm_up(target, arms, asked[0])
    with tqdm(total=count, desc=f"requests to {target.params.group}", unit="turn") as bar:
        for batch in _batches(target, asked, speaker=arms[0].name):
            yield from _timed(target, arms, batch, order)
            cut += sum(one.cut > 0 for one in batch)
            bar.update(len(batch))
    if cut:
        print(f"{cut} of {count} prompts were longer than the model reads and lost their middle.", file=sys.stderr)


def _batches(target: Target, asked: Sequence[benchmark.Request], speaker: str) -> Iterator[list[Asked]]:
    """`batch_size` requests together, turn after turn: each goes on with what the arm `speaker` answered before."""
    size, number = target.params.batch_size, itertools.count()
    for start in range(0, len(asked), size):
        talks: list[tuple[benchmark.Request, list[str]]] = [(request, []) for request in asked[start : start + size]]
        for turn in range(max(len(request.turns) for request, _ in talks)):
            talks = [(request, said) for request, said in talks if turn < len(request.turns)]
            batch = []
            for request, said in talks:
                said.append(request.turns[turn])
                batch.append(Asked(next(number), request, turn, *encode(target, said)))
            yield batch
            for one, (_, said) in zip(batch, talks, strict=True):
                said.append(target.tokenizer.decode(one.answers[speaker].tokens, skip_special_tokens=True))


def _timed(target: Target, arms: Sequence[Arm], batch: list[Asked], order: random.Random) -> Iterator[Timed]:
    seeds = [target.params.seed * 1_000_000 + asked.prompt for asked in batch]
    plan = [(arm, repeat) for arm in arms for repeat in range(target.params.repeats)]
    order.shuffle(plan)
    done = []
    for place, (arm, repeat) in enumerate(plan):
        for asked, response in zip(batch, arm.run([a.ids for a in batch], seeds), strict=True):
            asked.answers.setdefault(arm.name, response)
            done.append(Timed(asked, arm.name, response, repeat, place))
    yield from done


def _warm_up(target: Target, arms: Sequence[Arm], request: benchmark.Request) -> None:
    """One untimed pass of every arm, so that no timed pass pays for first-call set-up."""
    for arm in arms:
        arm.run([encode(target, [request.turns[0]])[0]], [0])
