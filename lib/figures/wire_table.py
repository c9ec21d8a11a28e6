"""The table of 4b: bytes of a message in every codec, what is left of it, and the question as text."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.figures import Tabled, bridge_captions, style, wire

EXPERIMENT = wire.EXPERIMENT
COLUMNS = ["sent", "as", "bytes", "coded_bytes", "shorter", "accuracy", "low", "high", "seeds", "items"]


def table(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Tabled:
    """A row per codec of the reference and of the bridge with the shortest frame that is accurate enough, then a row
    per text coder; `shorter`: UTF-8's bytes over these.
    """
    part = wire.messages(rows)
    points, texts = wire.points(part), wire.texts(rows, part)
    best = wire.smallest(points)
    shown = points[points.reference | (points.name == (None if best is None else best["name"]))]
    sent = shown.assign(sent=shown.name, bytes=shown.frame_bytes, **{"as": [_codec(row) for row in shown.itertuples()]})
    coded = texts.assign(sent="text", **{"as": texts.name})
    data = pd.concat([sent, coded], ignore_index=True).rename(columns={"estimate": "accuracy"})
    utf8 = texts[texts.coder == "utf8"].bytes
    data["shorter"] = (utf8.iloc[0] if len(utf8) else float("nan")) / data.bytes
    caption = (
        "Mean bytes of a whole frame, and with entropy coding; how many times shorter than the question in UTF-8 "
        "(below 1: longer); percent of test items answered right from what was decoded. Text needs what both sides "
        "hold beforehand (figure 4b_payback); entropy is what no lossless code undercuts on average. "
        f"{wire.steps_sentence(shown)}{bridge_captions.seeds_sentence(shown)}{wire.pair_sentence(shown)}"
        f"{style.missing_sentence(missing)}"
    )
    return Tabled(data[COLUMNS].astype({"seeds": "Int64", "items": "Int64"}), caption, _reading(best, texts))


TABLES = {"4b_table": table}


def _codec(row: pd.Series | tuple) -> str:
    return f"{row.codec}, {row.scales} scales" if row.scales else row.codec


def _reading(best: pd.Series | None, texts: pd.DataFrame) -> str:
    said = f"No frame keeps {wire.ENOUGH:g} % of the items right."
    if best is not None:
        said = (
            f"The shortest frame with at least {wire.ENOUGH:g} % of the items right is {best['name']} in "
            f"{_codec(best)}: {best.frame_bytes:.0f} bytes, {style.said(best.estimate, best.low, best.high)} % right."
        )
    sizes = texts.set_index("coder").bytes
    coders = [f"{sizes[coder]:.4g} ({wire.CODERS[coder]})" for coder in ("utf8", "lm") if coder in sizes]
    return f"{said} As text a question takes {' or '.join(coders)} bytes." if coders else said
