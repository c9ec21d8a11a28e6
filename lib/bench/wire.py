"""How fast the wire format encodes and decodes a message of the published plan's size, 64 x 4096, on one core.

| part       | arms                       | measured                                                            |
|------------|----------------------------|---------------------------------------------------------------------|
| `encode`   | codecs, plain and coded    | MB of fp32 message per second, from the matrix to the frame         |
| `decode`   | the same                   | the same, from the frame to the matrix, with every check            |
| `machine`  | `copy`, `checksum`         | MB per second of copying the message and of CRC-32 over its bytes   |

A codec cannot be faster than this: the message is copied once, the frame is copied once, and its checksum is computed.
The share of that bound that is reached says what quantising and packing cost on top.
"""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from lib import runs
from lib.bench.report import end
from lib.models import wire

SHAPE = 64, 4096  # tokens x width
CALLS = 9  # of a plain frame in a block, each timed; entropy coding takes a hundred times as long and is timed once
MEGA = 1e6  # bytes


def command(
    group: Annotated[int, typer.Option(min=1, help="numbers that share a scale")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="timed blocks of each arm")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on the last line")] = False,
) -> None:
    """Encoding and decoding messages in every codec against a copy of memory, on one CPU core.

    Keys of the JSON object: encode_mb_s and decode_mb_s (codec -> MB of fp32 message per second), copy_mb_s,
    checksum_mb_s, encode_of_bound and decode_of_bound (codec -> share of the speed of copying and checksum alone),
    coded_encode_mb_s and coded_decode_mb_s (with entropy coding), frame_bytes and coded_bytes (codec -> length).
    """
    run = runs.open_run("bench/wire", {"group": group, "seed": [0]})
    message = np.random.default_rng(run.params.seed[0]).standard_normal(SHAPE).astype(np.float32)
    rows = measure(message, run.params.codecs, group, repeats)
    for row in rows:
        run.measure(**row)
    report = summary(pd.DataFrame(rows), message.nbytes)
    columns = [name for name, value in report.items() if isinstance(value, dict)]
    print(pd.DataFrame({name: report[name] for name in columns}).round(2).to_string())
    print(f"\ncopy {report['copy_mb_s']:.0f} MB/s, checksum {report['checksum_mb_s']:.0f} MB/s")
    run.finish(report)
    end(report, as_json)


def measure(message: np.ndarray, codecs: list[str], group: int, repeats: int) -> list[dict[str, Any]]:
    """Rows of every arm in every repeat, each going first as often, after an untimed one."""
    arms, rows = list(_arms(message, codecs, group)), []
    for repeat in range(-1, repeats):
        for about, calls, work in arms[:: 1 if repeat % 2 else -1]:
            speed = _mb_s(work, calls, message.nbytes)
            if repeat >= 0:
                rows.append(about | {"repeat": repeat, "mb_s": speed})
    return rows


def _arms(message: np.ndarray, codecs: list[str], group: int) -> list[tuple[dict[str, Any], int, Callable[[], object]]]:
    """What is timed: the columns that tell its rows apart, the calls in a block, and one call."""
    into, data = np.empty_like(message), message.tobytes()
    arms = [
        ({"part": "machine", "arm": "copy", "coded": False}, CALLS, lambda: np.copyto(into, message)),
        ({"part": "machine", "arm": "checksum", "coded": False}, CALLS, lambda: zlib.crc32(data)),
    ]
    for codec in codecs:
        for coded in (False, True):
            given = {"codec": codec, "group": group, "entropy": coded}
            frame = wire.encode(message, **given)
            about, calls = {"arm": codec, "coded": coded, "frame_bytes": len(frame)}, 1 if coded else CALLS
            arms.append(({"part": "encode"} | about, calls, lambda given=given: wire.encode(message, **given)))
            arms.append(({"part": "decode"} | about, calls, lambda frame=frame: wire.decode(frame)))
    return arms


def summary(table: pd.DataFrame, message_bytes: int) -> dict[str, Any]:
    """The JSON object: medians over the repeats."""
    machine = table[table.part == "machine"].groupby("arm").mb_s.median()
    timed = table[table.part != "machine"]
    codecs = [codec for codec in wire.CODECS if codec in set(timed.arm)]
    speeds = timed.pivot_table(index="arm", columns=["part", "coded"], values="mb_s", aggfunc="median").loc[codecs]
    lengths = timed.pivot_table(index="arm", columns="coded", values="frame_bytes").loc[codecs].astype(int)
    copied = (message_bytes + lengths[False]) / machine["copy"]
    bound = message_bytes / (copied + lengths[False] / machine["checksum"])  # MB/s of message
    return {
        "encode_mb_s": speeds["encode", False].to_dict(),
        "decode_mb_s": speeds["decode", False].to_dict(),
        "encode_of_bound": (speeds["encode", False] / bound).to_dict(),
        "decode_of_bound": (speeds["decode", False] / bound).to_dict(),
        "coded_encode_mb_s": speeds["encode", True].to_dict(),
        "coded_decode_mb_s": speeds["decode", True].to_dict(),
        "frame_bytes": lengths[False].to_dict(),
        "coded_bytes": lengths[True].to_dict(),
        "copy_mb_s": float(machine["copy"]),
        "checksum_mb_s": float(machine["checksum"]),
    }


def _mb_s(work: Callable[[], object], calls: int, message_bytes: int) -> float:
    """Of the median call of a block; with several, the first only warms up."""
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return message_bytes / MEGA / statistics.median(seconds[calls > 1 :])
