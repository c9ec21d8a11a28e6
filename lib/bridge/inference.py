"""What a message saves at inference (4c): text against messages, over the same questions, with answers of one length.

Rows, each with `source`, `target` and `task`, by `protocol`:

* `latency`, one per timed batch: `arm` (`text`, or the name of a bridge), `tokens` (soft tokens; null for the text),
  `batch_size`, `batch`, `repeat`, `order` (place among all timed batches), seconds of each stage as `<stage>_s` (see
  `lib.bridge.inference_stages`; 0 where an arm has no such stage), means over the batch of `sent_bytes` (UTF-8, or
  the frame) and `context_tokens` (positions that the target reads), `padded_tokens` (with padding), `masked` (whether
  padding needed a mask, which can make a batch slower), `new_tokens`, `device` (what it ran on). Links are not waited
  for: their time is bytes over bandwidth (`lib.figures.inference`).
* `memory`, one per batch that was measured, untimed: `kv_prefill_bytes`, `kv_bytes` (the target's cache, read off its
  tensors when the prompt is read and at the end), `peak_bytes` (the most that the target's side held beside the
  weights), `source_peak_bytes` (the source's side), `source_kv_bytes` (the cache that the source has if it goes on
  itself), `weight_bytes` (of the models that the arm needs), `measured_by`.
* `quality`, one per arm: `n`, `accuracy`, `correct` (0 and 1 per question), `capped` of the same forced answers, cut
  where they end by themselves.
* `breakeven`, one per bridge, pair and length of text (`text_tokens`): FLOPs (`lib.bridge.inference_flops`),
  `affordable` and `ratio`. `pair` is `here`, or `plan` for the plan's own models by their published sizes; `measured`
  marks the mean length of the questions at hand.
* `serving`, one per arm, batch size and repeat, from vLLM (`backend="vllm"`): what `lib.bridge.serving` says.

Batches hold questions of similar length, so that padding costs the text little. Batches of all sizes are timed in
random order, the arms of one right after another, in random order too.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from lib import provenance
from lib.bridge import chosen, evaluation, live_memory, named, serving, worker
from lib.bridge import inference_flops as flops
from lib.bridge import inference_stages as stages
from lib.bridge.chosen import Chosen
from lib.bridge.decoding import Written
from lib.bridge.inference_stages import TEXT, Arm, Clock, Setting
from lib.bridge.pair import prompt
from lib.bridge.tasks import Item
from lib.metrics.cost import ModelShape
from lib.params import ParameterError
from lib.params.inference import Inference

MEASURED = 6  # batches of each size whose memory is measured, from the shortest to the longest; they warm up the rest


@dataclass(frozen=True)
class Study:
    """Everything a run is made of."""

    params: Inference
    setting: Setting
    arms: list[Arm]
    items: list[Item]  # sorted by the length of their prompts
    trusted: bool = False  # whether the models' own code may run

    def batches(self, size: int) -> list[list[Item]]:
        """All questions in batches of neighbours; `size` divides their number (`lib.params.inference`)."""
        return [self.items[i : i + size] for i in range(0, len(self.items), size)]


def load(params: Inference) -> Study:
    """Models, bridges and questions; ParameterError, one sentence, where they do not fit together."""
    bridges = [chosen.find(name, params.runs_dir) for name in params.bridges]
    named.same_pair([one.params for one in bridges])
    first: Chosen = bridges[0]
    items = first.items("test", params.samples)
    if len(items) < params.samples:
        raise ParameterError(f"The task has {len(items)} test questions, not {params.samples}: ask for fewer samples.")
    pair = first.pair()
    setting = Setting(pair, first.task(), params.new_tokens, params.codec)
    items.sort(key=lambda item: len(prompt(pair.target, setting.task, item.question)))
    _check_context(setting, items, max(one.params.soft_tokens for one in bridges))
    arms = [Arm(TEXT), *(Arm(name, one.bridge(pair)) for name, one in zip(params.bridges, bridges, strict=True))]
    return Study(params, setting, arms, items, first.params.trust_remote_code)


def _check_context(setting: Setting, items: Sequence[Item], soft_tokens: int) -> None:
    """ParameterError where the target has no positions for an answer behind the longest of its prompts."""
    target, reader = setting.pair.target, setting.pair.reader
    message = len(reader.bos) + soft_tokens + len(reader.anchor)
    longest = max(message, *(len(prompt(target, setting.task, item.question)) for item in items))
    context = target.model.config.max_position_embeddings
    if longest + setting.new_tokens > context:
        raise ParameterError(
            f"The longest prompt and its answer come to {longest} + {setting.new_tokens} tokens, but {target.name} "
            f"reads {context} at most: lower new_tokens, or name bridges to a target that reads more."
        )


def run(study: Study, respond: Callable[..., None], folder: Path) -> Iterator[dict[str, Any]]:
    """Measure; yields rows as they are there. respond: called with what each arm answers to every question."""
    pair = study.setting.pair
    about = {"source": pair.source.name, "target": pair.target.name, "task": study.setting.task.name}
    measured = _served(study, folder) if study.params.backend == "vllm" else _timed(study, respond)
    for row in measured:
        yield row | about


def _timed(study: Study, respond: Callable[..., None]) -> Iterator[dict[str, Any]]:
    yield from _memory(study)
    yield from _quality(study, respond)
    yield from _latency(study)
    yield from _breakeven(study)


def _latency(study: Study) -> Iterator[dict[str, Any]]:
    chance, device = random.Random(study.params.seed), _device(study)
    batches = [(size, i, batch) for size in study.params.batches for i, batch in enumerate(study.batches(size))]
    repeats = range(study.params.repeats)
    plan = [(repeat, *batch) for repeat in repeats for batch in chance.sample(batches, len(batches))]
    with tqdm(total=len(plan) * len(study.arms), desc="timed batches", unit="batch", file=sys.stderr) as bar:
        for repeat, size, number, batch in plan:
            for arm in chance.sample(study.arms, len(study.arms)):
                place = {"batch_size": size, "batch": number, "repeat": repeat, "order": bar.n}
                done = _pass(study.setting, arm, batch)
                yield {"protocol": "latency"} | arm.about | place | done | {"device": device}
                bar.update()


def _pass(setting: Setting, arm: Arm, batch: Sequence[Item]) -> dict[str, Any]:
    """One timed batch: seconds by stage, and what was sent, read and written."""
    clock = Clock(setting.device)
    sent = arm.send(setting, clock, [item.question for item in batch])
    answered = arm.read(setting, clock, sent)
    return {f"{stage}_s": seconds for stage, seconds in clock.seconds.items()} | {
        "sent_bytes": float(np.mean([len(one) for one in sent])),
        "context_tokens": float(np.mean(answered.context_tokens)),
        "padded_tokens": answered.padded_tokens,
        "masked": answered.masked,
        "new_tokens": answered.tokens.shape[1],
    }


def _memory(study: Study) -> Iterator[dict[str, Any]]:
    for size in study.params.batches:
        batches = study.batches(size)
        for arm in study.arms:
            _pass(study.setting, arm, batches[-1])  # so that no peak holds what libraries allocate once, such as cuBLAS
        for number in np.linspace(0, len(batches) - 1, min(MEASURED, len(batches))).round().astype(int).tolist():
            questions = [item.question for item in batches[number]]
            for arm in study.arms:
                about = {"protocol": "memory"} | arm.about | {"batch_size": size, "batch": number}
                yield about | _held(study, arm, questions)


def _held(study: Study, arm: Arm, questions: Sequence[str]) -> dict[str, Any]:
    """Bytes that one batch holds on either side."""
    setting, clock = study.setting, Clock(study.setting.device)
    pair, bridge = setting.pair, arm.bridge
    sent, sending = live_memory.peak(lambda: arm.send(setting, clock, questions), setting.device)
    answered, reading = live_memory.peak(lambda: arm.read(setting, clock, sent), setting.device)
    weights = _weights(pair.target.model)
    if bridge is not None:
        weights += _weights(setting.front) + _weights(bridge)
    return {
        "kv_prefill_bytes": answered.kv_prefill_bytes,
        "kv_bytes": answered.kv_bytes,
        "peak_bytes": reading,
        "source_peak_bytes": sending if bridge else 0,
        "source_kv_bytes": stages.source_cache(setting, questions) if bridge else 0,
        "weight_bytes": weights,
        "measured_by": "CUDA's allocator" if setting.device.type == "cuda" else "live tensors",
    }


def _quality(study: Study, respond: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Forced answers, cut where they end by themselves, judged as in 4a (decoded plainly, messages as they arrive).

    LeakError where the target of a message reads anything else.
    """
    setting, reader = study.setting, study.setting.pair.reader
    for arm in study.arms:
        rows, size = [], max(study.params.batches)
        for begin in range(0, len(study.items), size):
            questions = [item.question for item in study.items[begin : begin + size]]
            clock = Clock(setting.device)
            sent = arm.send(setting, clock, questions)
            with arm.guard(setting, sent):
                rows += arm.read(setting, clock, sent).tokens.tolist()
        ends = [next((i for i, token in enumerate(row) if token in reader.stop_ids), None) for row in rows]
        cut = [row[:end] for row, end in zip(rows, ends, strict=True)]
        texts = [reader.tokenizer.decode(row, skip_special_tokens=True) for row in cut]
        respond(arm=arm.name, texts=texts)
        written = Written(texts, [end is None for end in ends], [0] * len(rows))
        score = evaluation.score(setting.task, study.items, written)
        kept = {name: score[name] for name in ("n", "accuracy", "correct", "capped")}
        yield {"protocol": "quality"} | arm.about | kept


def _breakeven(study: Study) -> Iterator[dict[str, Any]]:
    pair, task = study.setting.pair, study.setting.task
    around = len(pair.reader.bos) + len(pair.reader.anchor)
    mean = round(np.mean([len(prompt(pair.target, task, item.question)) for item in study.items]) - around)
    source = flops.front(ModelShape.of(pair.source.model), pair.layer)
    for arm in study.arms[1:]:
        sizes = flops.Sizes(source, ModelShape.of(pair.target.model), arm.bridge.shape, around)
        for row in flops.curve(sizes, mean):
            yield {"protocol": "breakeven", "pair": "here"} | arm.about | row
    for soft_tokens in flops.PLANNED:
        about = {"pair": "plan", "arm": f"the plan's {soft_tokens} tokens", "tokens": soft_tokens}
        for row in flops.curve(flops.plan(soft_tokens), flops.PLAN_TEXT):
            yield {"protocol": "breakeven"} | about | row


def _served(study: Study, folder: Path) -> Iterator[dict[str, Any]]:
    """Text and messages through vLLM; the messages are made beforehand."""
    setting, params = study.setting, study.params
    questions = [item.question for item in study.items]
    prompts: dict[str, Any] = {TEXT: [prompt(setting.pair.target, setting.task, question) for question in questions]}
    for arm in study.arms[1:]:
        frames = [arm.send(setting, Clock(setting.device), [question])[0] for question in questions]
        prompts[arm.name] = [stages.embedded(setting, arm.bridge, frame) for frame in frames]
    with worker.set_aside(setting.pair.source, setting.pair.target):  # the engine needs the GPU
        rows = serving.serve(
            setting.pair.target.name,
            prompts,
            params.new_tokens,
            params.batches,
            params.repeats,
            log=folder / "log.txt",
            threads=params.threads,
            seed=params.seed,
            trust_remote_code=study.trusted,
        )
    arms = {arm.name: arm for arm in study.arms}
    for row in rows:
        kept = {name: value for name, value in row.items() if name not in ("kind", "batch", "tokens")}
        yield {"protocol": "serving"} | kept | arms[row["kind"]].about | {"batch_size": row["batch"]}


def _weights(model: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def _device(study: Study) -> str:
    if study.setting.device.type == "cuda":
        return torch.cuda.get_device_name(study.setting.device)
    return f"{provenance.cpu_name()}, {study.params.threads} thread" + ("s" if study.params.threads > 1 else "")
