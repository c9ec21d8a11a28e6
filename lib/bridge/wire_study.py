"""What the messages of a trained bridge cost on the wire, and what is left of them behind it (4b).

Every message is encoded into a frame, decoded again, and answered by the target from what came out: bytes are lengths
of frames, accuracy is of decoded messages. The same questions are coded as text, by coders fitted on training
questions, and decoded back; the target reads them as they are.

Rows, by `protocol`:

* `message`, one per seed, codec and format of the scales: accuracy with the mark of every item (`correct`), mean bytes
  of a frame without (`frame_bytes`) and with entropy coding (`coded_bytes`), its parts, and the signal to noise ratio;
* `text`, one per coder: mean bytes of a question, bytes both sides must hold beforehand (`side_bytes`), and whether all
  questions came back; accuracy is that of the target with the text;
* `floor`: the entropy of a question, where it is generated;
* `geometry`: exact sizes of the plan's own messages beside real prompts (`lib.bridge.geometry`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lib.bridge import arms, chosen, evaluation, geometry
from lib.bridge.chosen import Chosen
from lib.bridge.pair import Encoded, Pair, encode
from lib.bridge.worker import set_aside
from lib.metrics import textcodes
from lib.models import lm_coder, wire
from lib.models.bridge import Bridge
from lib.params.wire import Wire


def bridge_of(params: Wire) -> Chosen:
    """The bridge that a run is about; no model is loaded, but a wrong name or GSM8K file is refused."""
    geometry.prompts(params.gsm8k)
    return chosen.find(params.bridge, params.runs_dir, **params.changes)


def run(params: Wire, subject: Chosen, pair: Pair, respond: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a bridge, its messages first; `respond` is called with what the target wrote to every item."""
    task = subject.task()
    encoded = encode(pair, task, subject.items("test", params.test))
    world = {"task": task.name, "source": subject.params.source, "target": subject.params.target}
    about = world | {
        "label_of": subject.params.folder_label(),
        "tokens": subject.params.soft_tokens,
        "width": subject.params.wire_dim,
        "noise": subject.params.noise_bits,
        "train_steps": subject.params.steps,
    }
    for seed in params.seed:
        bridge = subject.bridge(pair, seed)
        own = about | {"bridge_parameters": bridge.parameters_count, "seed": seed}
        for row in messages(params, pair, bridge, encoded):
            respond(seed=seed, codec=row["codec"], scales=row["scales"], texts=row.pop("texts"))
            yield {"protocol": "message"} | own | row
    if params.texts:
        for row in texts(pair, subject, encoded):
            yield {"protocol": "text"} | world | row
        bits = task.entropy_bits() if task.entropy_bits else None
        yield {"protocol": "floor", "entropy_bytes": bits and bits / 8} | world
    yield from geometry.rows(params.gsm8k)


def messages(params: Wire, pair: Pair, bridge: Bridge, encoded: Encoded) -> Iterator[dict[str, Any]]:
    """A row per codec and format of the scales."""
    sent = evaluation.sent(bridge, encoded).cpu().numpy()
    kinds = [(c, s) for c in params.codecs for s in (params.scales if c.startswith("int") else [""])]
    for codec, scales in tqdm(kinds, desc="through the wire", unit="codec", file=sys.stderr, delay=2):
        options = {"group": params.group, "scales": scales or "fp32", "bridge": bridge.fingerprint}
        frames = [wire.encode(message, codec, **options) for message in sent]
        coded = [wire.encode(message, codec, **options, entropy=True) for message in sent]
        came, again = (_decoded(kind, bridge.fingerprint) for kind in (frames, coded))
        if not np.array_equal(came, again):
            raise AssertionError(f"Entropy coding changed a message in {codec}: its bytes mean nothing.")
        parts = wire.sizes(*sent.shape[1:], codec, group=params.group, scales=options["scales"])
        heard = torch.from_numpy(came).to(pair.target.device)
        answered = evaluation.answer_messages(pair, bridge, encoded.task, heard, hygiene=False)
        judged = evaluation.score(encoded.task, encoded.items, answered)
        yield {
            "codec": codec,
            "scales": scales,
            "n": judged["n"],
            "accuracy": judged["accuracy"],
            "correct": judged["correct"],
            "frame_bytes": _mean_length(frames),
            "coded_bytes": _mean_length(coded),
            "header_bytes": parts.header,
            "scale_bytes": parts.scales,
            "code_bytes": parts.codes,
            "anchor_bytes": parts.anchor,
            "checksum_bytes": parts.checksum,
            "sqnr_db": decibels(sent, came),
            "texts": answered.texts,
        }


def _decoded(frames: Sequence[bytes], bridge: int) -> np.ndarray:
    """float32 [N, tokens, width]"""
    return np.stack([wire.decode(frame, bridge=bridge) for frame in frames])


def texts(pair: Pair, subject: Chosen, encoded: Encoded) -> Iterator[dict[str, Any]]:
    """A row per text coder; dictionaries are made of training questions."""
    asked = [item.question for item in encoded.items]
    for coder, sizes, side, back in _coded(pair, subject, asked):
        read = _read(pair, subject, encoded, back)
        yield {
            "coder": coder,
            "n": len(asked),
            "bytes": float(np.mean(sizes)),
            "side_bytes": side,
            "lossless": back == asked,
            "accuracy": read["accuracy"],
            "correct": read["correct"],
        }


def _read(pair: Pair, subject: Chosen, encoded: Encoded, texts: Sequence[str]) -> dict[str, Any]:
    """What the target makes of the questions as they came back, decoded plainly."""
    if list(texts) != [item.question for item in encoded.items]:
        changed = [replace(item, question=text) for item, text in zip(encoded.items, texts, strict=True)]
        encoded = encode(pair, encoded.task, changed)
    told = arms.text_rows(pair, encoded, subject.params.soft_tokens, ["target_alone"])
    return next(row for row in told if not row["decode_hygiene"])


def _coded(pair: Pair, subject: Chosen, asked: Sequence[str]) -> Iterator[tuple[str, list[int], int, list[str]]]:
    """Coder, bytes of every question, bytes to hold beforehand, and the questions as they came back."""
    corpus = [item.question for item in subject.items("train", subject.params.train)]
    for name in textcodes.CODERS:
        code = textcodes.fit(name, corpus)
        frames = [code.encode(text) for text in asked]
        back = [code.decode(frame) for frame in frames]
        yield name, [len(frame) for frame in frames], code.side_bytes, back
    source = pair.source
    ids = [source.tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked]
    vocabulary = len(source.tokenizer)
    frames = [textcodes.pack_ids(row, vocabulary) for row in ids]
    back = [source.tokenizer.decode(textcodes.unpack_ids(frame, vocabulary)) for frame in frames]
    yield "packed_ids", [len(frame) for frame in frames], lm_coder.table_bytes(source), back
    with set_aside(pair.target):  # the coder works in float64: a source of 7B parameters fills a GPU of 80 GB
        frames = lm_coder.encode(source, asked)
        back = lm_coder.decode(source, frames)
    yield "lm", [len(frame) for frame in frames], lm_coder.side_bytes(source), back


def _mean_length(frames: Sequence[bytes]) -> float:
    return float(np.mean([len(frame) for frame in frames]))


def decibels(sent: np.ndarray, came: np.ndarray) -> float | None:
    """Signal to quantisation noise in dB; None where nothing was lost."""
    noise = float(np.square(sent.astype(np.float64) - came).sum())
    return 10 * math.log10(float(np.square(sent.astype(np.float64)).sum()) / noise) if noise else None
