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
# # 4b. What does a message of soft tokens cost on the wire, and what is left of it there?
#
# In 4a a target model answers a question from a message of a few vectors. A message has to be sent, so it costs bytes. The plan
# expected quantisation to make it two to five times *shorter* than the text. But it counted tokens and bits, never bytes: 64 vectors of 4096 numbers
# are 262,144 numbers. At half a byte each, and with their scales, that is more than 500 times the prompt that they stand for.
#
# Here every message becomes a frame of bytes, is decoded again, and the target answers from what came out.
# Bytes are lengths of frames, with the header, the scales, the anchor text and the checksum. The narrow bridges of 4a send so few numbers that the
# question is open again; and it has to be asked against text that is coded as well as text can be.

# %% tags=["parameters"]
bridge: str = "quick/1a_stable_8tok"  # PRESET/LABEL of 4a (trained if need be), or a run or label of its finished runs
soft_tokens: int = 0  # other soft tokens; 0: as the bridge has
wire_dim: int = 0  # other numbers per soft token; 0: as the bridge has
noise_bits: int = 0  # trained with the noise of a wire of so many bits per number; 0: as the bridge was
steps: int = 0  # other steps of training; 0: as the bridge was trained
codecs: list = ["fp32", "fp16", "bf16", "int8", "int6", "int4", "int3", "int2"]  # number formats of the message
scales: list = ["fp32", "fp16"]  # formats of the scale that each group of integer codes has
group: int = 32  # numbers that share a scale
texts: bool = True  # also code the questions as text, for comparison
gsm8k: str = ""  # local GSM8K file for the plan's own sizes; empty: prompt lengths as measured
test: int = 400  # test items at most
threads: int = 1  # CPU threads; tiny models are fastest with one
seed: list = [0]  # seeds of the bridge's training
label: str = ""  # name of the run folder; empty: the bridge and what is changed of it
preset: str = ""  # filled in by the sweep
run_dir: str = ""  # folder of this run; empty: a new one
runs_dir: str = ""  # where run folders go; empty: runs/

# %%
from lib import runs

run = runs.open_run("4b_wire", globals())

# %% [markdown]
# ## The bridge and its frame
#
# A trained bridge is loaded, or trained now where no earlier run has left it in the cache. Below is one message as it is sent with four bits per
# number: byte by byte, in the order of `lib.models.wire`.

# %%
import torch

from lib import figures, results
from lib.bridge import wire_report, wire_study

torch.set_num_threads(run.params.threads)
subject = wire_study.bridge_of(run.params)
pair = subject.pair()
wire_report.example(subject, pair, run.params)

# %% [markdown]
# ## Through the wire
#
# Every test question's message in every codec. Integer codecs are symmetric and share a scale among `group` numbers.

# %%
rows = []
for row in wire_study.run(run.params, subject, pair, run.response):
    rows.append(row)
    run.measure(**row)
table = results.frame(run, rows)

# %% [markdown]
# ## Bytes and what is left
#
# `frame_bytes` is the whole frame, `coded_bytes` the same with its numbers entropy-coded where that is shorter. `text / frame` is how many times
# shorter than the UTF-8 question a frame is (below 1: longer); `repaid_after`, the messages after which the bridge itself, which both sides must
# have, has paid for its bytes (inf: never). `drop` is the accuracy lost against fp32 on the same items, with its 95 % interval; watch where it leaves zero.

# %%
wire_report.codecs(table)

# %% [markdown]
# ## What text costs when it is coded as well
#
# A dictionary made of training questions, or the source model itself as a predictor, brings a question far below its UTF-8 bytes; both sides must
# hold it beforehand (`side_bytes`), as both hold the bridge. `repaid_after`: messages until that has paid for itself. The last line is the
# entropy of a question, which no lossless code can undercut on average. Second table: how many numbers a message may have
# until its frame is longer than the text in each code; 0 means that the header alone is.

# %%
wire_report.texts(table)

# %%
wire_report.room(table, run.params.group)

# %% [markdown]
# ## Accuracy against bytes
#
# The best place is up and left. The line is this bridge in every codec; points at the height of the text arm are text coders.

# %%
from lib.figures import wire_bytes, wire_geometry, wire_overhead

figures.show(wire_bytes.against_bytes, table);

# %% [markdown]
# What a frame is made of: look at how much of it is not the message once the numbers have few bits.

# %%
figures.show(wire_overhead.overhead, table);

# %% [markdown]
# ## The plan's own sizes
#
# Exact, and independent of any training: 32, 48 or 64 tokens of 4096 numbers beside a prompt of GSM8K and the key-value cache of that prompt.

# %%
display(wire_report.geometry(table))
figures.show(wire_geometry.geometry, table);

# %% [markdown]
# ## Reading

# %%
print(wire_report.reading(table))
run.finish(wire_report.summary(table))
