"""The benchmark of the wire format: its keys, its medians, and the bound that its shares are of."""

import io
import json
from contextlib import redirect_stdout

import pandas as pd
import pytest

from lib import paths, runs
from lib.bench import wire as bench
from lib.models import wire


def test_it_prints_json_last_and_keeps_its_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(bench, "SHAPE", (16, 64))
    out = io.StringIO()
    with redirect_stdout(out):
        bench.command(group=32, repeats=3, as_json=True)
    report, rows = json.loads(out.getvalue().splitlines()[-1]), runs.load("bench/wire", tmp_path)
    for part in ("encode", "decode"):
        assert list(report[f"{part}_mb_s"]) == list(report[f"coded_{part}_mb_s"]) == list(wire.CODECS)
        timed = rows[(rows.part == part) & (rows.arm == "int4") & ~rows.coded].mb_s
        assert len(timed) == 3
        assert report[f"{part}_mb_s"]["int4"] == timed.median() > 0
    assert report["frame_bytes"] == {codec: wire.sizes(16, 64, codec).total for codec in wire.CODECS}
    assert all(report["coded_bytes"][codec] < length for codec, length in report["frame_bytes"].items())


def test_the_bound_is_two_copies_and_a_checksum():
    rows = [{"part": "machine", "arm": "copy", "mb_s": 100.0}, {"part": "machine", "arm": "checksum", "mb_s": 10.0}]
    for part, speed in (("encode", 4.0), ("decode", 8.0)):
        rows += [{"part": part, "arm": "int8", "coded": coded, "mb_s": speed, "frame_bytes": 10**6} for coded in (0, 1)]
    table = pd.DataFrame(rows).fillna({"coded": False}).astype({"coded": bool})
    report = bench.summary(table, 4 * 10**6)
    bound = 4 / (4 / 100 + 1 / 100 + 1 / 10)
    assert report["encode_of_bound"]["int8"] == pytest.approx(4 / bound)
    assert report["decode_of_bound"]["int8"] == pytest.approx(8 / bound)
