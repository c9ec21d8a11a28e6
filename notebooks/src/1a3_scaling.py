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
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does entropy-adaptive branching save more on larger models?
#
# Drawing N samples from one prompt repeats work: every sample reads the same prompt, and many begin alike.
# Entropy-adaptive branching (EAB) decodes one path and splits it only where the model is unsure. Its authors expected
# the speedup over N separate generations to grow with model size, from about 2× at 0.5B to about 3× at 7B parameters
# (that plan's research question 1.3). But a branch is one draw that all its descendants inherit: is what EAB returns
# still what the model would say?
#
# This notebook measures **one model**: what each way of sampling costs, where its speedup comes from, and whether its
# samples are the model's. `python -m lib.sweep 1a3_scaling --preset quick` runs it for a ladder of sizes,
# `python -m lib.figures` draws the answer, and `python -m lib.claims` decides it.

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
arms: list = [
    "naive",
    "hf",
    "batched",
    "bifurcated",
    "eab_sequential",
    "eab",
    "tree",
    "tree_multinomial",
    "arithmetic",
]  # generators compared; eab@0.1: EAB at another threshold
repeats: int = 1  # timed passes of each fast arm
compile: bool = False  # trees at fixed shapes under torch.compile (CUDA graphs on a GPU)
questions: int = 1  # questions on which the law of the answers is measured; 0: leave it out
answer_tokens: int = 48  # new tokens per answer at most
replicates: int = 10  # independent repetitions of every arm on a question
reference: int = 200  # independent samples that stand for the law of a question's answers
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
ids = [torch.tensor(prompt.ids, device=lm.device) for prompt in asked]
about = {"model": lm.name, "parameters": lm.parameters, "dummy": lm.dummy}
print(f"{lm.name}: {lm.parameters:,} parameters{', RANDOM WEIGHTS: cost only' if lm.dummy else ''}\n\n{asked[0].text}")

# %% [markdown]
# ## The comparison
#
# All arms see the same prompts, temperature, filters and stop ids.
#
# | arm | how it draws N samples |
# |---|---|
# | `naive`, `hf_sequential` | one after another: a lean loop, and transformers' `generate` |
# | `hf` | transformers' `num_return_sequences`: one batch, the prompt read N times |
# | `batched` | one batch, the prompt read once: what a practitioner would do |
# | `bifurcated` | the same on the trees' engine: rows share the prompt's keys, and are dropped when they end |
# | `eab_sequential`, `eab` | EAB as published, and with all paths of a step in one forward |
# | `tree`, `tree_multinomial`, `arithmetic` | every shared prefix decoded once, the model's law kept |
#
# Every arm draws the same number of samples (`fixed`; EAB grows further trees where one returns fewer). EAB, `naive` and
# `batched` also do so with the number that EAB chose (`matched`, the original protocol). EAB runs first, untimed, to set
# that number; the timed passes then come in random order.

# %%
from lib.generators import comparison
from lib.generators.common import SamplingParams
from lib.metrics import diversity

law = SamplingParams(**run.params.model_dump(include=set(SamplingParams.__annotations__)), stop_ids=lm.stop_ids)
rows, options = [], {"repeats": run.params.repeats, "seed": run.params.seed}
with hub.explain_oom("num_samples or prompt_tokens"):
    for trial in comparison.trials(lm.model, ids, run.params.arms, law, **options):
        for record in trial.responses(lm.tokenizer):
            run.response(**record, dummy=lm.dummy)
        quality = diversity.describe(*zip(*((s.tokens, s.logprob) for s in trial.output.samples), strict=True))
        for row in trial.rows():
            rows.append(row | quality | about)
            run.measure(**rows[-1])

# %% [markdown]
# ## What it cost
#
# Medians over prompts. Compare three columns: tokens through the model (the prompt is read N times by `naive` and both
# of transformers' arms, once by the others), the calls they took, and the seconds. `eab_sequential` and `eab` push the same tokens; the calls
# make the difference.

# %%
table = pd.DataFrame(rows)
columns = ["num_samples", "token_forwards", "forward_calls", "flops", "kv_bytes", "prefill_s", "decode_s", "wall_s"]
cost = table.groupby(["protocol", "arm"])[columns].median()
cost.assign(MFLOP=cost.flops / 1e6, KV_MB=cost.kv_bytes / 1e6).drop(columns=["flops", "kv_bytes"]).round(3)

# %% [markdown]
# ## What it bought, and where that comes from
#
# Speedup is a ratio within each prompt, so prompts that are slow for everybody do not blur it. Each bar is split into
# factors that multiply to it: the prompt read once, the batch, the engine (shared attention, rows dropped when they
# end), and what is left to the tree itself. Look for the longest one.

# %%
from lib.figures import waterfall
from lib.metrics import stats

speedups = stats.summarise(stats.against(table))
waterfall.waterfall(table.assign(**run.params.model_dump(exclude={"model", "arms"}))).figure;

# %% [markdown]
# ## What it changed
#
# The same table with the quality of the samples. The i.i.d. value, `naive`'s, is the target: more diverse is not better.
# `batched`, `bifurcated` and `tree_multinomial` share naive's random numbers, so they repeat its samples one for one. Look
# at `coverage`, the probability of all the sequences seen: EAB's branches are never the same, and mostly improbable.

# %%
fixed = table[table.protocol == "fixed"]
quality_columns = ["distinct_1", "distinct_2", "distinct_3", "self_bleu", "unique_ratio", "coverage", "nll"]
speed = speedups[speedups.protocol == "fixed"].set_index("arm").estimate.rename("speedup")
fixed.groupby("arm")[quality_columns].mean().join(speed).round(3)

# %% [markdown]
# ## What a sample is worth
#
# Questions, many times over, and the answers as clusters. `batched` draws N samples each time; EAB and the arms on the
# trees' engine as many as the same number of tokens through the model buys. How far off is the entropy of the answers,
# against a large set of independent samples? `effective_samples` is how many independent ones would be as good. An arm
# whose `tv_answers` lies far above its `tv_answers_noise` does not draw from the model's law.

# %%
from lib import fidelity

study = fidelity.Study(**run.params.model_dump(include=set(fidelity.Study.__annotations__)))
judged = []
with hub.explain_oom("num_samples or questions"):
    for row in fidelity.judge(lm, run.params.arms, law, study, run.params.seed):
        judged.append(row | about)
        run.measure(**judged[-1])
fidelity.table(judged).round(3)

# %% [markdown]
# ## The answer for this model
#
# Below, the speedups of this run. Whether the samples are still the model's, the table above says: they are not where `tv_answers`
# lies far above `tv_answers_noise`. (The published plan's own "token-step speedup" divided naive's prompt and new tokens by EAB's new tokens alone, which
# gives (P + L) / L whatever the model does.)

# %%
answers = speedups[(speedups.protocol == "fixed") & (speedups.arm != "naive")].sort_values("estimate")
intervals = [stats.Interval(row.estimate, row.low, row.high, row.n) for row in answers.itertuples()]
warning = "RANDOM WEIGHTS, cost only. " if lm.dummy else ""
print(f"{warning}Times as fast as {num_samples} separate generations by {lm.name}:")
print("\n".join(f"  {arm}: {interval}" for arm, interval in zip(answers.arm, intervals, strict=True)))
print(f"  the published metric, for any model: {1 + prompt_tokens / max_new_tokens:.1f}")
summary = {"parameters": lm.parameters, "dummy": lm.dummy, "speedups": speedups.to_dict("records")}
run.finish(summary | {"cost": cost.reset_index().to_dict("records"), "law": judged})
