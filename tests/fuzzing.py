"""Input that nobody would write on purpose: what reads it may refuse it in one sentence, and nothing else.

Each `check_*` gives one case to a reader: hypothesis makes most of them, and `damaged` cuts, flips and repeats the
bytes of real files.
"""

import json
import random
import warnings
from pathlib import Path

from hypothesis import strategies as st

from lib import paths, preset_files, presets, runs
from lib.data import benchmark, gsm8k, hotpotqa
from lib.data.benchmark import BenchmarkError
from lib.data.rows import DataError
from lib.params import EXPERIMENTS, ParameterError

EXPERIMENT = "1a3_scaling"
NAMES = [*EXPERIMENTS[EXPERIMENT].model_fields, "modle", "", "base", "where"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["ladder-1m", "Qwen2.5-7B", "eab@0.1", "auto", "{model}", "{", "{0}", "{model!r:>9}", "~x", "/"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
PARAMETERS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
KEYS = {
    "base": PARAMETERS,
    "grid": st.dictionaries(st.sampled_from(NAMES), st.lists(VALUES, max_size=3), max_size=3),
    "exclude": st.lists(PARAMETERS, max_size=2),
    "overrides": st.lists(st.fixed_dictionaries({"where": PARAMETERS, "set": PARAMETERS}), max_size=2),
    "gpus": SCALARS,
    "exclusive": st.booleans(),
    "label": st.text(max_size=9) | SCALARS,
}
# Each part is what it should be, more often than not, so that mistakes further down are reached.
PRESETS = st.fixed_dictionaries({}, optional={key: part | part | VALUES for key, part in KEYS.items()})
GRIDS = st.fixed_dictionaries(
    {"presets": st.fixed_dictionaries({"x": PRESETS | VALUES})}, optional={"base": PARAMETERS | VALUES}
)
ROWS = st.dictionaries(
    st.sampled_from(
        [*("prompt", "turns", "id", "question_id", "category", "question", "answer"), "context", "type", "level", "x"]
    ),
    VALUES | st.just("3 apples\n#### 3"),
    max_size=6,
)
LINES = st.lists(ROWS.map(json.dumps) | VALUES.map(json.dumps) | st.text(max_size=20), max_size=4).map("\n".join)


SPECIAL = [b"&a ", b"*a", b"!!", b"{", b"[", b'"', b":", b"\n", b"\0", b"NaN", b"9" * 30]


def check_sentence(error: Exception) -> None:
    """One line that ends as a sentence."""
    assert "\n" not in str(error) and str(error)[-1] in ".?", str(error)


def check_grid(document: object) -> None:
    """A parsed grid becomes cells that resolve, or a sentence."""
    try:
        assert isinstance(document, dict)
        preset_files._checked(preset_files.File, document, "The file")
        for cell in presets.expand(EXPERIMENT, document, "x"):
            assert cell.gpus >= 0 and cell.resolved().folder_label()
    except ParameterError as error:
        check_sentence(error)


def real_files() -> list[Path]:
    """The files of params/ that hold grids."""
    return [path for path in sorted(paths.PARAMS.glob("*.yaml")) if path.stem in EXPERIMENTS]


def check_file(path: Path, content: bytes) -> None:
    """A file of params/ is read, or refused in a sentence."""
    path.write_bytes(content)
    try:
        document = preset_files.read(path)
        for name in document["presets"]:
            presets.expand(path.stem, document, name)
    except ParameterError as error:
        check_sentence(error)


def check_rows(path: Path, content: bytes) -> None:
    """A file of requests or rows is read by all three loaders, or refused in a sentence."""
    path.write_bytes(content)
    for load, refusal in ((benchmark.load, BenchmarkError), (gsm8k.load, DataError), (hotpotqa.load, DataError)):
        try:
            assert load(path)
        except refusal as error:
            check_sentence(error)


def check_runs(folder: Path, name: str, content: bytes, rows: int) -> None:
    """With one file of the only run replaced, the loader finds that run as it was, or none; never half of it."""
    file = folder / name
    whole = file.read_bytes()
    file.write_bytes(content)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            table = runs.load(EXPERIMENT, folder.parent.parent)
            assert len(runs.summaries(EXPERIMENT, folder.parent.parent)) <= 1
        assert len(table) in (0, rows)
        assert len(table) == rows or caught, "a run was left out without a word"
        for warning in caught:
            check_sentence(warning.message)
    finally:
        file.write_bytes(whole)


def make_run(place: Path, rows: int) -> Path:
    """A finished run with so many rows."""
    run = runs.open_run(EXPERIMENT, {"model": "ladder-60k", "runs_dir": str(place)})
    for row in range(rows):
        run.response(text=f"answer {row}")
        run.measure(arm="eab", prompt=row, seconds=0.5 * row)
    run.finish({"mean": 1.5})
    return run.dir


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The bytes with one to three cuts, flips, insertions or repetitions."""
    for _ in range(chance.randint(1, 3)):
        at, length = chance.randrange(len(content) + 1), chance.randint(1, 20)
        part = content[at : at + length]
        content = chance.choice(
            [
                content[:at],
                content[:at] + content[at + length :],
                content[:at] + part * chance.randint(2, 4) + content[at + length :],
                content[:at] + chance.randbytes(length) + content[at:],
                content[:at] + chance.choice(SPECIAL) + content[at:],
            ]
        )
    return content
