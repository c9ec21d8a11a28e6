"""Which engine can run which method on which group: the support table, generated.

    python -m lib.generators.speculative.support [--json]

Nothing about vLLM is written down here: whether it has a method, and a class for a group's EAGLE head, is asked of the
vLLM that is installed (`vllm_says`). Of the plan's heads those for Qwen2 have no class in current vLLM, which the table
then says, with the way around it.
"""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from lib import console
from lib.generators.speculative import METHODS, SUPPORTED, vllm_says
from lib.generators.speculative.vllm_head import architecture
from lib.models.groups import GROUPS, Group
from lib.models.registry import ModelError

YES = "yes"
VLLM_METHODS = {"ngram": "ngram", "draft": "draft_model"}  # ours -> vLLM's; a head's is the group's `eagle_method`
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}  # what a head's config.json says

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Row:
    """One method on one group: "yes", or why not, per engine."""

    group: str
    method: str
    drafter: str  # hub id of the head or the draft model
    torch: str
    transformers: str
    vllm: str


def table(says: dict[str, Any] | None) -> list[Row]:
    """Every group of the plan times every method; `says` is what `vllm_says.ask` returned, None without vLLM."""
    return [_row(name, group, method, says) for name, group in GROUPS.items() for method in METHODS]


def _row(name: str, group: Group, method: str, says: dict[str, Any] | None) -> Row:
    drafter = {"eagle": group.eagle, "hybrid": group.eagle, "draft": group.draft}.get(method, "")
    cells = {backend: _cell(backend, group, method) for backend in SUPPORTED}
    if cells["vllm"] == YES:
        cells["vllm"] = _vllm(group, method, says)
    return Row(name, method, drafter, **cells)


def _cell(backend: str, group: Group, method: str) -> str:
    """What holds whatever the installed versions are."""
    if method not in SUPPORTED[backend]:
        return "no such method"
    if method in ("eagle", "hybrid") and not group.eagle:
        return "no head is known"
    if method == "draft" and not group.draft:
        return "no draft model is known"
    if backend == "torch" and method in ("eagle", "hybrid") and group.eagle_method != "eagle":
        return "EAGLE-1 heads only"
    return YES


def _vllm(group: Group, method: str, says: dict[str, Any] | None) -> str:
    """What the installed vLLM says to it."""
    if says is None:
        return "not installed: make vllm"
    if method == "baseline":
        return YES
    theirs = VLLM_METHODS.get(method, group.eagle_method)
    if theirs not in says["methods"]:
        return f"{says['version']} has no method {theirs}"
    if method != "eagle":
        return YES
    name = architecture({"architectures": [ARCHITECTURES[group.eagle_architecture]]}, group.eagle_method)
    if name in says["architectures"]:
        return YES
    return f"{says['version']} has no {name}: convert the head (python -m lib.models.eagle convert)"


@app.command()
def show(as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False) -> None:
    """Print which engine can run which method of speculative decoding on which group."""
    try:
        says = vllm_says.ask()
    except ModelError as error:
        says, why = None, str(error)
    rows = [asdict(row) for row in table(says)]
    if as_json:
        print(json.dumps({"vllm": says, "rows": rows}))
        return
    _print(rows)
    print(f"\nvLLM {says['version']}, asked just now." if says else f"\n{why}")


def _print(rows: list[dict[str, str]]) -> None:
    """Columns as wide as their widest cell."""
    names = list(rows[0])
    widths = [max(len(name), *(len(row[name]) for row in rows)) for name in names]
    for cells in (names, *(row.values() for row in rows)):
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


if __name__ == "__main__":
    console.command(app)
