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
# # What does drafting buy?
#
# A model writes one token per forward, and on most hardware a forward of six tokens takes little longer than one of
# one. Speculative decoding uses that: somebody cheap **drafts** a few tokens, the model **verifies** them all at once and
# keeps the right ones. With the right acceptance rule the output is exactly what the model alone would have written.
#
# Who drafts? `ngram` looks up what followed the last words when they stood in the text before; `eagle` is a one-layer
# head on the model's own hidden states; `draft` is a smaller model; `hybrid` takes `ngram` where the text repeats itself
# and `eagle` elsewhere. This notebook runs **one method on one model** beside the baseline of the same engine, request by
# request. `python -m lib.sweep 2a_specdec --preset quick` runs the grid, `python -m lib.figures` draws it.

# %% tags=["parameters"]
group: str = ""  # group of the published plan, such as qwen2_7b; empty: the model's
model: str = "ladder-1m"  # ladder name, short name (Qwen2-7B), hub id or folder
method: str = "ngram"  # who drafts: baseline (nobody), ngram, draft, eagle, hybrid
backend: str = "torch"  # engine: torch (this project's), transformers, vllm
num_speculative_tokens: int = 5  # tokens drafted per step at most; lookups of hybrid twice as many
prompt_lookup_max: int = 4  # ngram: longest suffix looked up, in tokens
prompt_lookup_min: int = 1  # ngram: shortest suffix looked up, in tokens
draft_sample_method: str = "greedy"  # eagle, draft: propose the likeliest token, or probabilistic: sample it
tree_width: int = 1  # eagle: candidates followed per depth; 1: a chain
eagle_model: str = ""  # EAGLE head, hub id or folder; empty: the group's, or one trained here
draft_model: str = ""  # draft model; empty: the group's
benchmark: str = ""  # JSONL file with prompts; empty: the requests of this project
requests: int = 12  # requests taken from the benchmark; 0: all of a file
max_new_tokens: int = 64  # new tokens per request at most
temperature: float = 0.0  # sampling temperature; 0: greedy
top_k: int = 0  # keep the k likeliest tokens; 0: off
top_p: float = 1.0  # keep the smallest set of tokens with this mass; 1: off
batch_size: int = 1  # requests decoded together where latency is measured
batch_sizes: list = [1, 8]  # batch sizes of the throughput curve; []: none
batch_requests: int = 16  # requests behind each point of that curve
traces: int = 6  # requests behind the cost curves and the replay, which drafts every position; 0: none
repeats: int = 1  # timed passes of each arm
paired: bool = True  # time the baseline in this run too; off: take the baseline run of the group
dtype: str = "auto"  # auto, float32, bfloat16 or float16
device: str = "auto"  # auto, cpu, cuda, cuda:1, ...
threads: int = 1  # CPU threads of the model; 1 gives the steadiest times
load_format: str = "auto"  # auto, or dummy: random weights (cost only)
tensor_parallel_size: int = 1  # vllm: GPUs that share one model
gpu_memory_utilization: float = 0.85  # vllm: share of the memory it may take
max_model_len: int = 0  # vllm: longest sequence in tokens; 0: as the model says
trust_remote_code: bool = False  # allow a hub model to run its own code
seed: int = 0  # of requests and samples
label: str = ""  # name of the run folder; empty: group and method
preset: str = ""  # filled in by the sweep
run_dir: str = ""  # folder of this run; empty: a new one
runs_dir: str = ""  # where run folders go; empty: runs/

# %%
from lib import runs

run = runs.open_run("2a_specdec", globals())

# %% [markdown]
# ## Model and requests
#
# The requests cover several kinds of work, from text that is all in the prompt already (`repeat`, `edit`, `list`,
# `quote`) to text that is not (`story`, `math`). Drafting lives off what can be guessed, so expect it to depend on the kind.

# %%
import torch

from lib.specdec import latency
from lib.specdec.target import Target

torch.set_num_threads(run.params.threads)
target = Target(run.params)
asked = latency.requests(target)
print(f"{run.params.group}: {target.outline.parameters:,} parameters, {len(asked)} requests; the first:")
print(f"\n{asked[0].turns[0]}")

# %% [markdown]
# ## Request by request, and in batches
#
# Both arms answer every request, in random order, on the same engine: the same loop, cache, attention and stopping rule.
# Each verification step records how many tokens were drafted and how many were accepted. After that, the same in
# batches: rows of a batch share the weights that a forward has to read anyway, so drafting has less to win there.

# %%
from lib import results
from lib.specdec import arms, report, throughput

timed, rows = [], []
with arms.ready(target, run.dir / "log.txt", max([run.params.batch_size, *run.params.batch_sizes])) as engines:
    for answer in latency.run(target, engines, asked):
        timed.append(answer)
        rows.append(answer.row(target))
        run.measure(**rows[-1])
        if not answer.repeat:
            run.response(**answer.record(target))
    for row in throughput.run(target, engines, asked):
        rows.append(row)
        run.measure(**row)
table = results.frame(run, rows)

# %% [markdown]
# ## What it bought
#
# `speedup` is the baseline's seconds per token over the method's, request by request, then the median.
# `tokens_per_forward` is what would remain on hardware where verifying is free; the gap between the two is what drafting
# and verifying cost here. `prompt_overlap` says how much of the answer the prompt holds already.

# %%
report.by_category(table[table.protocol == "latency"], run.params.method).round(2)

# %% [markdown]
# ## Which of the drafted tokens are kept?
#
# A token is only looked at when all before it were right. *Conditional* is the chance that it is right then;
# *unconditional* the chance that it is kept at all. Their fall says how far ahead drafting is worth it.

# %%
from lib.figures import specdec_positions

report.draw(specdec_positions.positions, table);

# %% [markdown]
# ## Does it pay in a batch?
#
# Milliseconds per token of the whole batch. Where `speedup` falls below 1, drafting costs more than it saves.

# %%
report.by_batch(table[table.protocol == "throughput"])

# %% [markdown]
# ## Is it still the model's own output?
#
# Greedy: every answer must be the baseline's (`equal`), and each token the `likeliest` when the model scores the answer in
# a plain forward, but for ties that rounding decides (`margin` within `tolerance`). Sampled: tokens must be as
# surprising to the model as its own entropy says (`difference` 0, within sampling error). `passed` is the verdict.

# %%
from lib.specdec import lossless

audited = list(lossless.audit(target, timed))
for row in audited:
    run.measure(**row)
table = results.frame(run, rows + audited)
report.audits(table).T

# %% [markdown]
# ## Could it have been predicted?
#
# The time of a step is what drafting takes, plus a forward of one token more than was drafted. With the measured costs
# of both and the measured acceptance, a speedup follows. Points on the line mean that nothing else costs time. (Costs are
# timed apart on the engine `torch` only. The traces, which say position by position what drafting ten tokens would have
# hit, are replayed for the figures.)

# %%
from lib.figures import specdec_predicted
from lib.specdec import lengths
from lib.specdec.traces import run as draft_everywhere

extra = [*lengths.run(target, asked), *draft_everywhere(target, asked)]
for row in extra:
    run.measure(**row)
table = results.frame(run, rows + audited + extra)
report.draw(specdec_predicted.predicted, table);

# %% [markdown]
# ## The answer for this model

# %%
print(report.answer(table, run.params.method))
run.finish(report.summary(table));
