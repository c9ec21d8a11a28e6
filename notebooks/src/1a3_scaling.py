# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does entropy-adaptive branching save more on larger models?
#
# Drawing N samples from one prompt repeats work: every sample reads the same prompt, and many begin alike.
# Entropy-adaptive branching (EAB) decodes one path and splits it only where the model is unsure. Its authors expected
# the speedup over N separate generations to grow with model size, from about 2× at 0.5B to about 3× at 7B parameters
# (that plan's research question 1.3).
#
# This notebook measures **one model**. `python -m lib.sweep 1a3_scaling --preset quick` runs it for a ladder of sizes and
# `python -m lib.figures` draws the answer.

# %% tags=["parameters"]
model: str = "ladder-1m"  # ladder name, short name (Qwen2.5-7B), hub id or folder
load_format: str = "auto"  # auto, or dummy: random weights (cost only)
dtype: str = "auto"  # auto, float32, bfloat16 or float16
device: str = "auto"  # auto, cpu, cuda, cuda:1, ...
threads: int = 1  # CPU threads of the model; 1 gives the steadiest times
prompts: int = 2  # number of distinct prompts, the same for every model
prompt_tokens: int = 200  # exact length of every prompt in tokens, chat template included
max_new_tokens: int = 30  # new tokens per sample at most
temperature: float = 0.8  # sampling temperature
top_k: int = 0  # keep the k likeliest tokens; 0: off
top_p: float = 1.0  # keep the smallest set of tokens with this mass; 1: off
threshold: float = 0.055  # EAB branches above this entropy, as a share of ln |V|
branch_factor: int = 3  # EAB: tokens followed at a branching point
max_paths: int = 20  # EAB: live paths at most
num_samples: int = 20  # samples per prompt in the fixed-N comparison
arms: list = ["naive", "hf_sequential", "hf", "batched", "eab_sequential", "eab"]  # eab@0.1: EAB at another threshold
repeats: int = 1  # timed passes of each fast arm
seed: int = 0  # of prompts and samples
trust_remote_code: bool = False  # allow a hub model to run its own code
label: str = ""  # name of the run folder; empty: the model's
preset: str = ""  # filled in by the sweep
run_dir: str = ""  # folder of this run; empty: a new one
runs_dir: str = ""  # where run folders go; empty: runs/

# %%
from lib import runs

run = runs.open_run("1a3_scaling", globals())
run.params

# %% [markdown]
# ## Model and prompts
#
# The prompts are unfinished stories in the user's turn of a chat, exactly `prompt_tokens` long as the model reads them.

# %%
import pandas as pd
import torch

from lib.data.prompts import natural_prompts
from lib.models import hub

torch.set_num_threads(run.params.threads)
lm = hub.load(
    **run.params.model_dump(include={"dtype", "device", "load_format", "trust_remote_code"}), name=run.params.model
)
asked = natural_prompts(lm.tokenizer, run.params.prompts, run.params.prompt_tokens, run.params.seed)
print(f"{lm.name}: {lm.parameters:,} parameters{', RANDOM WEIGHTS: cost only' if lm.dummy else ''}\n\n{asked[0].text}")

# %% [markdown]
# ## The comparison
#
# All arms see the same prompts, temperature, filters and stop ids. `naive` is the published baseline on a lean loop, and
# `hf_sequential` the same through transformers' `generate`; `batched` is what a practitioner would do, and `hf` what
# transformers does with `num_return_sequences`; `eab_sequential` is EAB as published, one forward per path; `eab` is the
# same algorithm with all paths of a step in one forward. One EAB tree returns as many samples as it pleases; where that
# is fewer than asked for, further trees are grown, and paid for.
#
# Every arm draws the same number of samples (`fixed`), and again as many as EAB chose to draw (`matched`, the original
# protocol). EAB runs first, untimed, to set that number; the timed passes then come in random order.

# %%
from lib.generators import comparison
from lib.generators.common import SamplingParams

law = SamplingParams(**run.params.model_dump(include=set(SamplingParams.__annotations__)), stop_ids=lm.stop_ids)
ids = [torch.tensor(prompt.ids, device=lm.device) for prompt in asked]
rows = []
with hub.explain_oom("num_samples or prompt_tokens"):
    for trial in comparison.trials(
        lm.model, ids, run.params.arms, law, repeats=run.params.repeats, seed=run.params.seed
    ):
        for record in trial.responses(lm.tokenizer):
            run.response(**record, dummy=lm.dummy)
        for row in trial.rows():
            rows.append(row | {"model": lm.name, "parameters": lm.parameters, "dummy": lm.dummy})
            run.measure(**rows[-1])

# %% [markdown]
# ## What it cost
#
# Medians over prompts. Compare three columns: tokens through the model (the prompt is read N times by `naive` and `hf`,
# once by the others), the calls they took, and the seconds. `eab_sequential` and `eab` push the same tokens; the calls
# make the difference.

# %%
table = pd.DataFrame(rows)
columns = ["num_samples", "token_forwards", "forward_calls", "flops", "kv_bytes", "prefill_s", "decode_s", "wall_s"]
cost = table.groupby(["protocol", "arm"])[columns].median()
cost.assign(MFLOP=cost.flops / 1e6, KV_MB=cost.kv_bytes / 1e6).drop(columns=["flops", "kv_bytes"]).round(3)

# %% [markdown]
# ## What it bought
#
# Speedup is a ratio within each prompt, so prompts that are slow for everybody do not blur it. Look for two gaps: from
# `eab_sequential` to `eab` (the engine), and from `batched` to `eab` (the tree, over what batching alone already gives).

# %%
from lib.figures import scaling
from lib.metrics import stats

speedups = stats.summarise(stats.against(table))
scaling.one_model(table.assign(**run.params.model_dump(exclude={"model", "arms"}))).figure;

# %%
fixed = {
    row.arm: stats.Interval(row.estimate, row.low, row.high, row.n)
    for row in speedups.itertuples()
    if row.protocol == "fixed"
}
warning = "RANDOM WEIGHTS, cost only. " if lm.dummy else ""
print(f"{warning}Times as fast as {num_samples} separate generations by {lm.name}:")
for arm, interval in fixed.items():
    print(f"  {arm}: {interval}")

# %%
summary = {"parameters": lm.parameters, "dummy": lm.dummy, "speedups": speedups.to_dict("records")}
run.finish(summary | {"cost": cost.reset_index().to_dict("records")})
