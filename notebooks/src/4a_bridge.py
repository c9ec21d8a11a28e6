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
# # 4a. A message of soft tokens from one model to another: does it carry the question, and what keeps it from collapsing?
#
# A *source* model reads a question. A trained *bridge* turns what the source has read into a message of a few vectors,
# the *soft tokens*, which a *target* model reads in the place of words; it answers from that message alone. The published result was
# 81.5 %, above the target's own 73 % with the text, and a collapse to 36 % that three fixes should prevent:
#
# * *InfoNCE*: an extra loss that asks each message to be nearest to its own question among those of the batch;
# * *early stopping*: keep the weights that did best on validation items;
# * *hygiene* in decoding: a penalty on repeated tokens, and no sequence of three tokens twice.
#
# But there the target was also given the question and, when it was judged, the gold answer. With that leak closed nothing was left
# (0 to 3 %). So here the target sees [BOS | message | "Answer: "] and a guard refuses anything else; every message is
# also destroyed in four ways, to see whether the answers go with it; and what a question says is known to the bit, because it is generated.
# One run is one configuration on several seeds. `python -m lib.sweep 4a_bridge --preset quick` runs the ablations.

# %% tags=["parameters"]
task: str = "arithmetic"  # arithmetic, multihop (generated here), gsm8k, hotpotqa (from the hub or from data)
data: str = ""  # local file or folder of gsm8k or hotpotqa; empty: from the hub
source: str = "bridge-source"  # model that reads the question: name, hub id or folder
target: str = "bridge-target"  # model that answers: name, hub id or folder
source_layer: float = 0.67  # whose states are read, as a share of the depth
kind: str = "resampler"  # bridge: resampler, linear, mean_pool, constant
soft_tokens: int = 16  # soft tokens that the target sees
wire_dim: int = 16  # numbers per soft token that are sent
bottleneck: int = 96  # width of the bridge
depth: int = 1  # blocks of the bridge
heads: int = 4  # attention heads of the bridge
ffn: int = 192  # width of its feed-forward layers; 0: 4 x bottleneck
info_nce: float = 0.05  # weight of InfoNCE; 0: off
info_nce_start: str = "warmup"  # InfoNCE from half of the "warmup" on (as published), or half of the "training"
distill: float = 0.0  # weight of distillation from the target that reads the text; 0: off
reconstruct: float = 0.0  # weight of reading the question back out of the message; 0: off
noise_bits: int = 0  # train with the noise of a wire of so many bits per number, 2 to 8; 0: off
patience: int = 5  # evaluations without a gain until early stopping; 0: off
hygiene: bool = True  # decode with repetition penalty 1.1 and no repeated 3-grams
stop: bool = False  # really end at the early stop, instead of noting it and going on
stressor: str = ""  # a fault to inject: hot, decay, gate, one_head, layernorm, pads, misaligned, bfloat16, leak
optimizer: str = "muon"  # muon, adamw
learning_rate: float = 0.03  # peak
warmup: int = 20  # steps of warm-up
clip: float = 1.0  # largest norm of the gradient; 0: not clipped
steps: int = 320  # steps of training
batch_size: int = 32  # examples per step, over all processes
evaluations: int = 8  # looks at the validation items, evenly over the training
train: int = 8000  # training items at most
validation: int = 160  # validation items at most
test: int = 400  # test items at most
dtype: str = "auto"  # of the frozen models: auto, float32, float16, bfloat16
device: str = "auto"  # auto, cpu, cuda, cuda:1, ...
processes: int = 0  # training processes; 0: one per GPU, one on a CPU
threads: int = 1  # CPU threads; tiny models are fastest with one
trust_remote_code: bool = False  # run code that a hub model brings along
seed: list = [0]  # seeds; each has its own initial weights and order of examples
label: str = ""  # name of the run folder; empty: task, bridge and fixes
preset: str = ""  # filled in by the sweep
run_dir: str = ""  # folder of this run; empty: a new one
runs_dir: str = ""  # where run folders go; empty: runs/

# %%
from lib import runs

run = runs.open_run("4a_bridge", globals())

# %% [markdown]
# ## Two models, one question
#
# The two models differ in width and in how they cut a text into tokens, so nothing can be handed over as it is. The message has
# `soft_tokens` x `wire_dim` numbers; the receiver's half of the bridge expands each row to a vector as long as one of the target's own embeddings.

# %%
import torch

from lib import figures, results
from lib.bridge import report, study
from lib.bridge.worker import Job

torch.set_num_threads(run.params.threads)
pair = Job.of(run.params).pair()
report.example(run.params, pair)

# %% [markdown]
# ## Training and judging
#
# Both models are frozen; what the source has read is stored once. Validation items, never test items, say which weights
# early stopping keeps. A training runs to its end all the same, so that we know what would have become of it. Trained bridges are
# kept in the cache, and this run's bridge is `bridge.safetensors` in its folder.

# %%
rows = []
for row in study.run(run.params, pair, run.response, run.dir):
    rows.append(row)
    run.measure(**row)
table = results.frame(run, rows)

# %% [markdown]
# ## Does the message carry the question?
#
# Accuracy on test items, decoded plainly and with hygiene; `low` to `high` is the 95 % interval over items under the configuration's own
# decoding. Look at `bridged` first, then at what is left of it when the message is another item's (`shuffled`), the `mean` of all,
# `zero`s or `noise`: an answer that survives this did not come from the message. `constant` is a tuned prompt that never
# sees the question; chance is what it reaches, or always giving the commonest answer.
#
# Above stand the arms that read text: the two models on their own; the target with a tuned prompt before the text (`prefix_text`: to beat
# `target_alone` and not this one means nothing); the source's written answer handed on as text (`relay`); the text cut to as many
# tokens as the message has (`truncated`); and the target's own embeddings of the question in the place of soft tokens (`oracle`).
# Further columns: accuracy when the last number counts where there is no `####` (`flexible`), nats per answer token (`ce`), answers that
# cannot be read (`invalid`), different answers per item (`distinct`), and how much the target reads before it answers.
#
# Second table: the bridge minus the text arms on the same items, with its interval, and McNemar's exact test per seed.

# %%
display(report.arms(table), report.against_text(table))

# %% [markdown]
# ## How it got there
#
# Above, accuracy on validation items (early stopping watches the plain one); below, what another item's message costs in nats per token
# (zero: the message says nothing). A collapse was defined before any run: accuracy below 0.7 of its peak, or delta CE below 0.05, or hardly any different answers.

# %%
from lib.figures import bridge_controls, bridge_curves

figures.show(bridge_curves.curves, table);

# %% [markdown]
# Early stopping and hygiene, with and without, on the same weights; `peak` and `final` on validation items.

# %%
report.stability(table)

# %% [markdown]
# ## All arms as a picture
#
# The same accuracies. Look how far `bridged` stands from the arms that read text, and whether the destroyed messages fall back to
# the tuned prompt (`constant`).

# %%
figures.show(bridge_controls.controls, table);

# %% [markdown]
# ## Outside of what was trained on, and what it costs
#
# First table (arithmetic only): numbers larger than any trained, a third step, the question asked before the story. The second compares text and message:
# tokens and cache bytes that the target needs are measured; the bytes to send are those of float16 numbers, before any coding, which is the next notebook's question.

# %%
display(report.shifts(table), report.costs(table))

# %% [markdown]
# ## Reading
#
# What this run came to, in numbers. It is one configuration: whether a fix helps takes the sweep, `python -m lib.figures`, and
# `python -m lib.claims`, which decides the plan's claims.

# %%
print(report.reading(table))
run.finish(report.summary(table))
