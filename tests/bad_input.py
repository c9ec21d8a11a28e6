"""Sixty and more ways to ask for what cannot be had, by the entry point at which they are tried.

A case is what is typed and part of the sentence that it must end in. `{tmp}` stands for a folder with the files of
`FILES`; YAML cases are a file of params/ instead. Importing this module needs no model stack.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from lib import console, papermill_io, paths, runs
from lib.params import resolve


@dataclass(frozen=True)
class Case:
    """What is typed at an entry point (or the text of a file there), and what the sentence must say."""

    entry: str
    typed: str
    says: str

    def __str__(self) -> str:
        return f"{self.entry}: {self.typed[:60]!r}"


GSM8K = {"question": "How many?", "answer": "1 + 1 = 2\n#### 2"}
CONFIG = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 40, "hidden_size": 16}
FILES: dict[str, bytes] = {
    "file": b"text",
    "prompts/empty.jsonl": b"\n",
    "prompts/half.jsonl": b'{"prompt": "a"}\n{"prompt": "b',
    "prompts/list.jsonl": b"[1, 2]\n",
    "prompts/keyless.jsonl": b'{"promt": "a"}\n',
    "prompts/number.jsonl": b'{"prompt": 7}\n',
    "prompts/twins.jsonl": b'{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}\n',
    "prompts/latin.jsonl": b'{"prompt": "\xe9"}\n',
    "prompts/nul.jsonl": b'{"prompt": "a"}\n\x00\n',
    "prompts/nan.jsonl": b'{"prompt": "a", "id": NaN}\n',
    "rows/few.jsonl": (json.dumps(GSM8K) + "\n").encode() * 3,
    "rows/no_gold.jsonl": b'{"question": "q", "answer": "two"}\n',
    "rows/no_answer.jsonl": b'{"question": "q"}\n',
    "rows/half.json": b'[{"question": "q"',
    "rows/latin.jsonl": b"\xff\xfe\n",
    "rows/empty.jsonl": b"",
    "rows/number.jsonl": b"7\n",
    "folder/readme.txt": b"no model",
    "pickled/config.json": json.dumps(CONFIG).encode(),
    "pickled/pytorch_model.bin": b"\x80\x04.",
    "cut/config.json": json.dumps(CONFIG).encode(),
    "cut/model.safetensors": b"\x40\x00\x00\x00\x00\x00\x00\x00{",
    "head/config.json": b"{}",
    "head/model.safetensors": b"\x40\x00\x00\x00\x00\x00\x00\x00{",
    "headless/config.json": b"{",
    "parameters.yaml": b"- 1\n",
}


def make_files(tmp: Path) -> None:
    """Everything that the cases name, under `tmp`, with three finished runs of 4a whose bridges are damaged."""
    for name, content in FILES.items():
        (tmp / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp / name).write_bytes(content)
    about = {"shape": {}, "target_rms": 1.0, "params": {}, "checkpoint": "final", "seed": 0, "models": {}}
    broken = {
        "cut": (json.dumps(about), b"\x40\x00\x00\x00\x00\x00\x00\x00{"),
        "foreign": (json.dumps({"hello": 1}), b""),
        "half": ('{"shape":', b""),
    }
    for label, (described, weights) in broken.items():
        run = finish("4a_bridge", tmp / "runs", label=label, seed=[len(label)])
        (run / "bridge.json").write_text(described)
        (run / "bridge.safetensors").write_bytes(weights)
    whole = finish("4a_bridge", tmp / "runs", label="whole", task="multihop")
    described = about | {"params": resolve("4a_bridge", {"label": "whole", "task": "multihop"}).model_dump(mode="json")}
    (whole / "bridge.json").write_text(json.dumps(described))
    save_file({"w": np.zeros(2)}, whole / "bridge.safetensors")


def finish(experiment: str, place: Path, **raw: object) -> Path:
    """A finished run without rows; its folder."""
    run = runs.open_run(experiment, {**raw, "runs_dir": str(place)})
    run.finish({})
    return run.dir


def at(entry: str, *cases: tuple[str, str]) -> list[Case]:
    return [Case(entry, typed, says) for typed, says in cases]


NB = {name[:2]: f"nb/{name}.ipynb" for name in ("2a_specdec", "3a_poh_scaling", "4a_bridge", "4b_wire", "4c_inference")}
CASES = [
    *at(
        "papermill",
        ("nb/1a3_scaling.ipynb -p modle ladder-1m", "did you mean 'model'?"),
        ("nb/1a3_scaling.ipynb -p model ladder-2m", "try 'ladder-3m'"),
        ("nb/1a3_scaling.ipynb -p temperature warm", "should be a number"),
        ("nb/1a3_scaling.ipynb -p prompts 0", "greater than or equal to 1"),
        ("nb/1a3_scaling.ipynb -y {arms:[naive,eabb]}", "did you mean 'eab'?"),
        ("nb/1a3_scaling.ipynb -p arms [naive,eabb]", "[naive, eabb]"),
        ("nb/1a3_scaling.ipynb -y [1,2]", "it is no mapping"),
        ("nb/1a3_scaling.ipynb -y !!python/object:os.system", "could not determine a constructor"),
        ("nb/1a3_scaling.ipynb -f {tmp}/parameters.yaml", "it is no mapping"),
        ("nb/1a3_scaling.ipynb -f {tmp}/none.yaml", "No such file"),
        ("nb/1a3_scaling.ipynb -b ###", "holds no parameters"),
        ("nb/1a3_scaling.ipynb -p run_dir {tmp}/file", "cannot be stored"),
        ("nb/1a3_scaling.ipynb -p run_dir {tmp}/folder", "holds other files"),
        ("nb/1a3_scaling.ipynb -p runs_dir {tmp}/file", "cannot be stored"),
        ("nb/1a3_scaling.ipynb -p label \udcff", "no text in UTF-8"),
        ("nb/1a4_scaling.ipynb", "did you mean '1a3_scaling.ipynb'?"),
        (f"{NB['2a']} -p method ngrm", "did you mean 'ngram'?"),
        (f"{NB['2a']} -p group qwen2_70b", "the nearest is 'qwen2_7"),
        (f"{NB['2a']} -p eagle_model nowhere", "no such folder exists"),
        (f"{NB['2a']} -p prompt_lookup_min 9", "above prompt_lookup_max"),
        (f"{NB['3a']} -p size nanno", "did you mean 'nano'?"),
        (f"{NB['3a']} -p n_heads 5", "do not divide"),
        (f"{NB['3a']} -p algorithm prim", "prim"),
        (f"{NB['4a']} -p task arithmetics", "did you mean 'arithmetic'?"),
        (f"{NB['4a']} -p warmup 999", "longer than the training"),
        (f"{NB['4a']} -p noise_bits 9", "give 2 to 8 bits"),
        (f"{NB['4b']} -p codecs int9", "did you mean 'int"),
        (f"{NB['4b']} -p bridge quik/1a_stable_8tok", "did you mean 'quick'?"),
        (f"{NB['4b']} -p bridge quick/1a_stable_8tk", "did you mean '1a_stable_8tok'?"),
        (f"{NB['4b']} -p bridge ../../etc/passwd", "has no preset '..'"),
        (f"{NB['4b']} -p bridge whle -p runs_dir {{tmp}}/runs", "did you mean 'whole'?"),
        (f"{NB['4b']} -p bridge .. -p runs_dir {{tmp}}/runs", "is called '..'"),
        (f"{NB['4b']} -p bridge cut -p runs_dir {{tmp}}/runs", "run that configuration again"),
        (f"{NB['4b']} -p bridge foreign -p runs_dir {{tmp}}/runs", "does not describe a bridge"),
        (f"{NB['4b']} -p bridge half -p runs_dir {{tmp}}/runs", "does not describe a bridge"),
        (f"{NB['4c']} -p bridges nobody", "No finished run of 4a_bridge"),
        (f"{NB['4c']} -y {{{{bridges: [whole, quick/1a_stable_8tok], runs_dir: {{tmp}}/runs}}}}", "differ in task"),
        (f"{NB['4c']} -p samples 7", "take 8"),
        ("nb/00_start.ipynb -p treshold 0.1", "did you mean 'threshold'?"),
        ("nb/00_start.ipynb -p seed one", "should be a whole number"),
        ("nb/explore.ipynb -p experimnt 2a_specdec", "did you mean 'experiment'?"),
        ("nb/paper_figures.ipynb -p preset 3", "type -r preset 3"),
    ),
    *at(
        "papermill",
        *(
            (f"{NB['2a']} -p benchmark {{tmp}}/prompts/{name}", says)
            for name, says in {
                "none.jsonl": "There is no benchmark file",
                "": "Is a directory",
                "empty.jsonl": "is empty",
                "half.jsonl": "Line 2",
                "list.jsonl": "not an object",
                "keyless.jsonl": "neither `prompt` nor `turns`",
                "number.jsonl": "give a text that says something",
                "twins.jsonl": "ids must differ",
                "latin.jsonl": "not UTF-8",
                "nul.jsonl": "it is not JSON",
                "nan.jsonl": "its id is NaN",
            }.items()
        ),
        *(
            (f"{NB['4a']} -p task gsm8k -p data {{tmp}}/rows/{name}", says)
            for name, says in {
                "none": "There is no file or folder",
                "": "not a folder saved by `datasets`",
                "few.jsonl": "too few to test",
                "no_gold.jsonl": "does not end in '#### '",
                "no_answer.jsonl": "`answer` is missing",
                "half.json": "it is not JSON",
                "latin.jsonl": "is not UTF-8",
                "empty.jsonl": "is empty",
                "number.jsonl": "not a JSON object",
            }.items()
        ),
        (f"{NB['4a']} -p task hotpotqa -p data {{tmp}}/rows/few.jsonl", "`type` is missing"),
        (f"{NB['4b']} -p gsm8k {{tmp}}/rows/no_gold.jsonl", "does not end in '#### '"),
        ("nb/1a3_scaling.ipynb -p model Qwen2.5-8B", "Qwen2.5-7B"),
        ("nb/1a3_scaling.ipynb -p model {tmp}/folder", "holds no model"),
        ("nb/1a3_scaling.ipynb -p model {tmp}/pickled", "pickled ones are not read"),
        ("nb/1a3_scaling.ipynb -p model {tmp}/cut", "is damaged"),
        (f"{NB['2a']} -p model {{tmp}}/pickled", "pickled ones are not read"),
        (f"{NB['4a']} -p source {{tmp}}/cut", "is damaged"),
    ),
    *at(
        "sweep",
        ("1a3_scalin", "did you mean '1a3_scaling'?"),
        ("../1a3_scaling", "did you mean '1a3_scaling'?"),
        ("bench/sampling", "has no presets"),
        ("1a3_scaling --preset quik", "did you mean 'quick'?"),
        ("1a3_scaling --preset ../quick", "did you mean 'quick'?"),
        ("1a3_scaling --only modle=x", "did you mean 'model'?"),
        ("1a3_scaling --only model", "write name=value"),
        ("1a3_scaling --skip model=ladder-2m", "has model=ladder-2m"),
        ("1a3_scaling --set prompts=many", "should be a whole number"),
        ("1a3_scaling --set arms=[naive", "cannot be read"),
        ("1a3_scaling --set runs_dir=x", "--runs-dir"),
        ("1a3_scaling --jobs 0", "greater than or equal to 1"),
        ("1a3_scaling --rerun never", "'stale', 'all'"),
        ("1a3_scaling --prest quick", "--preset"),
        ("", "Missing argument 'EXPERIMENT'"),
        ("1a3_scaling --preset micro --runs-dir {tmp}/file", "file"),
        ("4b_wire --preset micro --set bridge=quick/nothing", "has no configuration 'nothing'"),
        ("2a_specdec --preset micro --set benchmark={tmp}/prompts/half.jsonl", "Line 2"),
    ),
    *at(
        "figures",
        ("1a3_sped", "did you mean '1a3_speedup'?"),
        ("1a3_speedup --runs-dir {tmp}/empty", "There are 0 finished runs"),
        ("--runs-dir {tmp}/empty", "There are 0 finished runs"),
        ("1a3_growth --runs-dir {tmp}/empty", "python -m lib.bench growth"),
        ("1a3_speedup --preset quik", "did you mean 'quick'?"),
        ("--preset", "requires an argument"),
        ("4a_controls --runs-dir {tmp}/runs", "none of a sweep"),
        ("--runs-dir {tmp}/file", "file"),
    ),
    *at(
        "claims",
        ("extra", "unexpected extra argument"),
        ("--preset quik --runs-dir {tmp}/empty", "did you mean 'quick'?"),
        ("--runs-dir {tmp}/file", "file"),
    ),
    *at(
        "runs",
        ("export nothing -o {tmp}/out.tar --runs-dir {tmp}/runs", "nothing"),
        ("export 1a3_scaling -o {tmp}/nowhere/out.tar", "nowhere for the archive: make it first"),
        ("export 4a_bridge --runs-dir {tmp}/file", "make it a folder you may read"),
        ("import {tmp}/none.tar", "none.tar"),
        ("import {tmp}/file --runs-dir {tmp}/runs", "no tar at all"),
        ("exprt", "export"),
    ),
    *at(
        "bench",
        ("samplin", "Did you mean 'sampling'?"),
        ("sampling --model ladder-2m", "try 'ladder-3m'"),
        ("sampling --prompts 0", "greater than or equal to 1"),
        ("sampling --model {tmp}/cut", "is damaged"),
        ("wire --group 0", "greater than or equal to 1"),
        ("bridge --source {tmp}/folder", "holds no model"),
        ("specdec --model Qwen2.5-7B", "not on the ladder"),
    ),
    *at("ladder", ("ladder-2m", "did you mean 'ladder-3m'"), ("--jobs 0", "greater than or equal to 1")),
    *at(
        "eagle",
        ("train --model ladder-2m", "did you mean 'ladder-3m'"),
        ("convert --input-model {tmp}/folder --output-model {tmp}/out", "has no config.json"),
        ("convert --input-model {tmp}/headless --output-model {tmp}/out", "is not JSON"),
        ("convert --input-model {tmp}/head --output-model {tmp}/out", "head"),
        ("convert --input-model {tmp}/head", "Missing option '--output-model'"),
    ),
]

DEEP = "[" * 3000
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
GRIDS = at(
    "yaml",
    ("", "holds no mapping"),
    ("presets", "holds no mapping"),
    ("base: {}", "lacks presets"),
    ("presets: [x]", "presets: ['x'], which should be a mapping"),
    ("presets: {x: [1]}", "which should be a mapping"),
    ("presets: {x: {", "line 1"),
    ("presets: {x: {}, x: {}}", "the key 'x' stands twice"),
    ("preset: {x: {}}\npresets: {x: {}}", "unknown key 'preset'; did you mean 'presets'?"),
    ("presets: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    (f"presets: {{x: {DEEP}", "nested too deep"),
    (f"{BOMB}presets: {{x: {{}}}}", "more than 50,000 values"),
    ("presets: &p {x: *p}", "more than 50,000 values"),
    ("presets: {x: {gird: {}}}", "did you mean 'grid'?"),
    ("base: [1]\npresets: {x: {}}", "base: [1], which should be a mapping"),
    ("exclusive: maybe\npresets: {x: {}}", "should be true or false"),
    ("base: {modle: a}\npresets: {x: {}}", "did you mean 'model'?"),
    ("presets: {x: {base: {promts: 1}}}", "did you mean 'prompts'?"),
    ("presets: {x: {grid: {modle: [a]}}}", "did you mean 'model'?"),
    ("presets: {x: {grid: {model: ladder-1m}}}", "which should be a list"),
    ("presets: {x: {grid: {model: []}}}", "grid.model: [], which should be a list of at least one value; correct it."),
    ("presets: {x: {grid: [model]}}", "which should be a mapping"),
    ("presets: {x: {grid: {1: [a]}}}", "grid.1"),
    ("presets: {x: {exclude: {model: a}}}", "which should be a list"),
    ("presets: {x: {exclude: [{modle: a}]}}", "did you mean 'model'?"),
    ("presets: {x: {grid: {seed: [0]}, exclude: [{seed: 0}]}}", "excludes every cell"),
    ("presets: {x: {overrides: [{where: {seed: 0}}]}}", "lacks overrides.0.set"),
    ("presets: {x: {overrides: [{where: {sed: 0}, set: {}}]}}", "did you mean 'seed'?"),
    ("presets: {x: {overrides: [{where: {}, sett: {}, set: {}}]}}", "did you mean 'set'?"),
    ("presets: {x: {gpus: -1}}", "a whole number from 0 on"),
    ("presets: {x: {gpus: 1.5}}", "a share below 1"),
    ("presets: {x: {gpus: [1]}}", "a whole number from 0 on"),
    ("presets: {x: {gpus: true}}", "a whole number from 0 on"),
    ("presets: {x: {gpus: thread}}", "did you mean 'threads'?"),
    ("presets: {x: {gpus: dtype}}", "is no number"),
    ("presets: {x: {label: 7}}", "which should be text"),
    ("presets: {x: {label: '{modle}', grid: {model: [ladder-1m]}}}", "did you mean 'model'?"),
    ("presets: {x: {label: '{preset.__class__}'}}", "did you mean 'preset'?"),
    ("presets: {x: {label: '{preset:999999999}'}}", "in braces"),
    ("presets: {x: {label: '{preset'}}", "cannot be used"),
    ("presets: {x: {base: {model: ladder-2m}}}", "try 'ladder-3m'"),
    ("presets: {x: {base: {label: 2024-13-45}}}", "month must be in 1..12"),
    (f"presets: {{x: {{base: {{seed: {'9' * 5000}}}}}}}", "a value in it is malformed"),
    (f"presets: {{x: {{grid: {{seed: &s {list(range(200))}, prompts: *s, top_k: *s}}}}}}", "more than 10,000 cells"),
    ("presets: {y: {}}", "has no preset 'x'"),
    ("\udcff: 1", "it is not UTF-8"),
)


def run(entry: str, words: list[str]) -> None:
    """Do what the command of an entry point does, in this process."""
    sys.argv = [entry, *words]
    if entry == "papermill":
        return papermill_io.main(words)
    return COMMANDS[entry]()


def _sweep() -> None:
    from lib.sweep.__main__ import app

    console.command(app)


def _of(module: str) -> Callable[[], None]:
    def main() -> None:
        from importlib import import_module

        import_module(module).main()

    return main


def _ladder() -> None:
    from lib.models.ladder_cli import app

    console.command(app, ValueError, RuntimeError)


COMMANDS: dict[str, Callable[[], None]] = {
    "sweep": _sweep,
    "yaml": _sweep,
    "figures": _of("lib.figures.__main__"),
    "claims": _of("lib.claims.__main__"),
    "runs": _of("lib.runs.__main__"),
    "bench": _of("lib.bench.__main__"),
    "ladder": _ladder,
    "eagle": _of("lib.models.eagle_cli"),
}
LIGHT = ("papermill", "sweep", "yaml", "figures", "claims", "runs")  # need no model stack to say what is wrong


def prepare(case: Case, tmp: Path) -> list[str]:
    """What is typed in a case, after its files were made; a YAML case is preset x of the only file of params/."""
    if case.entry != "yaml":
        return [word.replace("{tmp}", str(tmp)) for word in split(case.typed)]
    (tmp / "params").mkdir(exist_ok=True)
    (tmp / "params" / "1a3_scaling.yaml").write_bytes(case.typed.encode(errors="surrogateescape"))
    paths.PARAMS = tmp / "params"
    return ["1a3_scaling", "--preset", "x"]


def split(typed: str) -> list[str]:
    """Words, of which one in double braces may hold spaces."""
    before, brace, rest = typed.partition("{{")
    if not brace:
        return typed.split()
    return [*before.split(), "{" + rest.replace("}}", "}")]
