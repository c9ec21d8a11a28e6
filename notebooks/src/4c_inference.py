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
# # 4c. A message instead of the text: what does it save in time, memory and throughput?
#
# A target that reads a message of 8 vectors instead of a question of 25 tokens has less to read and less to keep. But somebody has to
# make the message: the *source* must read the question, and the bridge, the codec and the link come on top. The published plan
# promised savings from the ratio of tokens alone, 150 to 64, and put the cache at 0.5 MB per token; nothing was timed. Counted
# through, its own pair spends 2.1 TFLOP in the source to save 1.2 TFLOP in the target.
#
# So here every stage is timed, on both sides, and everything is told in two accountings: the source *must read* the question for
# the message's sake, or *has read it* anyway, and its states are there to be sent. Answers have the same forced length in every arm.
# Short questions are the message's worst case, so a count of FLOPs says from which length on it would pay.

# %% tags=["parameters"]
bridges: list = ["quick/1a_stable_8tok", "quick/2a_stable_4tok"]  # PRESET/LABEL of 4a, or its finished runs
backend: str = "torch"  # torch, with every stage timed; vllm, for what an engine serves (make vllm)
samples: int = 16  # test questions; a multiple of every batch size
new_tokens: int = 32  # tokens of every answer: forced, the same in every arm
batches: list = [1, 4, 8]  # questions answered together
repeats: int = 1  # timed passes over the questions
codec: str = "int8"  # how a message is sent: fp32, fp16, bf16, int8, int6, int4, int3, int2
bandwidths: list = [0.0, 10.0, 1000.0]  # links in Mbit/s; 0: none, one machine
threads: int = 1  # CPU threads; tiny models are fastest with one
seed: int = 0  # of the order of timed batches
label: str = ""  # name of the run folder; empty: backend and bridges
preset: str = ""  # filled in by the sweep
run_dir: str = ""  # folder of this run; empty: a new one
runs_dir: str = ""  # where run folders go, and where runs of 4a are looked for; empty: runs/

# %%
from lib import runs

run = runs.open_run("4c_inference", globals())

# %% [markdown]
# ## Two ways for a question to reach the target
#
# The question as text, and the messages that may take its place. Compare their lengths in tokens.

# %%
import torch

from lib import figures, results
from lib.bridge import inference, inference_report

torch.set_num_threads(run.params.threads)
study = inference.load(run.params)
inference_report.setting(study)

# %% [markdown]
# ## Measuring
#
# Memory first, in passes that are not timed and warm everything up; then the answers, to know that we time something that works; then the
# clock, with arms, batches and repeats in random order. The device has finished before each reading of the clock. The table
# holds the accuracy of the answers that are timed, each message through its codec.

# %%
rows = []
for row in inference.run(study, run.response, run.dir):
    rows.append(row)
    run.measure(**row)
table = results.frame(run, rows)
inference_report.quality(table)

# %% [markdown]
# ## Where the time goes
#
# Left the whole answer, which is mostly the writing of it and the same for all; right the part that differs. Hatched is what the source does
# to read the question: the total without it stands in parentheses. Look whether the yellow reading of the target
# shrinks by more than what the bridge adds, and how this changes with the batch. Texts of a batch differ in length: they are sorted
# to be alike, and what is left is padded and masked, which messages, all of one length, do without. A mask alone can make a batch slower,
# so part of what messages gain in batches may be this: the last row of the first table below says how many batches had one.

# %%
from lib.figures import inference_breakeven, inference_memory, inference_stages, inference_throughput

figures.show(inference_stages.stages, table);

# %% [markdown]
# In numbers: median milliseconds per batch; then the time of the text over that of the message, on the same questions, for every link
# (above 1 the message is faster; `low` to `high` is the 95 % interval over batches, which too few batches do not have). A link costs
# what was really sent: the frame of the message, the UTF-8 of the text.

# %%
display(inference_report.stages(table), inference_report.speedups(table))

# %% [markdown]
# ## What is held in memory
#
# The target's cache shrinks with what it reads, but most of it is the answer's own. In parentheses what is left of the saving when
# the cache of a source that has read the question counts as well. A source also needs its weights.

# %%
figures.show(inference_memory.memory, table)
inference_report.memory(table)

# %% [markdown]
# ## Questions per second
#
# Above the text's line, a message answers more questions per second. Look at the panel in which the source must read them first,
# and whether the gap grows with the batch.

# %%
figures.show(inference_throughput.throughput, table)
inference_report.throughput(table)

# %% [markdown]
# ## When would it pay?
#
# A message saves where the source costs less than what the target is spared. Solid: what the source may cost, in units of the
# target's own reading of the text. Dashed: what it does cost. The left panel counts FLOPs for this pair, the middle
# one for the plan's pair (Mistral 7B to Llama 3.1 8B, published sizes, nothing run), the right one is the clock. Where
# the clock is below the count, the time goes into starting many small operations instead of multiplying.

# %%
figures.show(inference_breakeven.breakeven, table)
inference_report.breakeven(table)

# %% [markdown]
# ## Reading

# %%
print(inference_report.reading(table))
run.finish(inference_report.summary(table))
