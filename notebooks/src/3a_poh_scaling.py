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
# # Does PoH-HRM beat a plain transformer on mazes as both grow?
#
# PoH-HRM ("pointer over heads" with a hierarchical reasoning module) applies the same few transformer blocks R times
# and lets a small recurrent controller weigh the attention heads at every step. Its authors expected it to beat a
# plain transformer at finding the way through a maze, by more the larger both are. Their comparison gave it four times
# the arithmetic and more parameters, on mazes whose walls no model could see.
#
# Here the walls are seen, and there are four opponents instead of one: the baseline (`stack`), a stack with as many
# parameters (`stack_params`), one with as much arithmetic (`stack_flops`), and the same loop without controller and
# routing (`loop`). What is left of the advantage, and which part of PoH-HRM earns it?
#
# This notebook trains and judges every arm of a size. `python -m lib.sweep 3a_poh_scaling --preset quick` does so for
# several seeds, `python -m lib.figures` draws the answer, and `python -m lib.claims` decides it.

# %% tags=["parameters"]
maze_size: int = 6  # side of the mazes, in cells
train: int = 2400  # training mazes
test: int = 400  # test mazes
validation: int = 200  # validation mazes, judged after every epoch
min_path: str = "auto"  # fewest cells on the way through a test maze; auto: 40 % of all cells
epochs: int = 3  # passes over the training mazes
R: int = 4  # refinements: how often loop and poh apply their blocks
T: int = 4  # poh: the controller's slow module moves at every T-th block
size: list = ["nano"]  # pico, nano, micro, mini (for CPUs); tiny, small, medium, large, xl (the published plan's)
arch: list = ["stack", "stack_params", "loop", "poh", "stack_flops"]  # arms to train
n_heads: int = 0  # attention heads; 0: the size's own
learning_rate: list = [0.02]  # peak, at d_model 32 (wider: less); one, or one per arm
batch_size: int = 32  # mazes per step
augment: bool = True  # show a maze turned or mirrored and with a new goal every epoch
algorithm: str = "dfs"  # how mazes are carved: dfs (as published), wilson, kruskal
braid: float = 0.0  # share of dead ends that are opened, which makes loops
larger: list = [2]  # also test on mazes with so many cells more per side
device: str = "auto"  # auto, cpu, cuda, cuda:1, ...
compile: bool = False  # torch.compile the blocks; pays on a GPU
threads: int = 1  # CPU threads; tiny models are fastest with one
seed: list = [42]  # seeds; each has its own mazes and initial weights
label: str = ""  # name of the run folder; empty: sizes and arms
preset: str = ""  # filled in by the sweep
run_dir: str = ""  # folder of this run; empty: a new one
runs_dir: str = ""  # where run folders go; empty: runs/

# %%
from lib import runs

run = runs.open_run("3a_poh_scaling", globals())

# %% [markdown]
# ## The arms
#
# All are made of one block and trained by one recipe; each is read out R times on its way (a stack of fewer blocks after
# each), and every read-out is trained. Two rows to compare: `stack_params` has the parameters of `poh`, `stack_flops` its arithmetic (MFLOP: one
# forward over one maze). The second table has the published plan's five sizes: the parameters it took them for, those of
# its own models on 16 x 16 mazes, and of ours.

# %%
import torch

from lib import figures, results
from lib.mazes import planned, report, sets, study

torch.set_num_threads(run.params.threads)
display(report.shapes(run.params), planned.planned())

# %% [markdown]
# ## Training and judging
#
# Every arm of a seed sees the same mazes in the same order, and none sees a test maze, mirrored or turned ones included.
# A model answers with a direction for every cell. *Accuracy*: the walk that these directions make, from a start at least
# `min_path` cells away, reaches the goal without running into a wall or in a circle. Trained models are kept in the cache;
# a training that is stopped goes on from its last checkpoint.

# %%
rows = []
for row in study.run(run.params, run.response):
    rows.append(row)
    run.measure(**row)
table = results.frame(run, rows)

# %% [markdown]
# ## What came of it
#
# In percent, means over seeds; one seed is an anecdote. The rows without a size are walkers without a model: `random` has
# drawn one open way for each cell, `manhattan` goes towards the goal and does not see walls (it has to fail, else the
# mazes would be no test of anything), `bfs` knows the way. In mazes without loops every walk that arrives is a shortest
# one, so accuracy and optimality are the same there; the protocol `loops` has mazes where they may differ.
#
# Second table: what PoH-HRM solves more than each other arm, in percentage points, paired by seed. `detectable` is the
# difference that so many seeds find in four of five cases; one seed finds nothing.

# %%
display(report.scores(table), report.differences(table))

# %% [markdown]
# ## What refinement does
#
# Share of test mazes solved at each read-out. Beyond R the loops go on refining, further than they were trained to:
# a line that keeps rising there has learned a procedure rather than a number of steps. Below, the first test maze at every
# read-out: an arrow per cell, crossed where it leads away from the goal, and the walk.

# %%
from lib.figures import mazes_larger, mazes_routing, mazes_training

figures.show(mazes_training.refinement, table)
mazes = sets.make(run.params, run.params.seed[0])
subject = next((s for s in study.subjects(run.params) if s.arch == "poh"), study.subjects(run.params)[0])
report.picture(study.trained(run.params, subject, mazes).model, mazes.test, str(subject));

# %% [markdown]
# ## How they learn
#
# Loss on validation mazes after every epoch. Look at who is still falling at the end: more training would change the order.

# %%
figures.show(mazes_training.training, table);

# %% [markdown]
# ## Larger mazes than trained on, and longer ways
#
# Positions are relative, so a model reads mazes of any side. Left: the share solved falls with the side; do the loops
# make up for it with twice the refinements? Right: the same by the length of the way.

# %%
figures.show(mazes_larger.larger, table);

# %% [markdown]
# ## Which heads does the pointer point at?
#
# 1 means that all heads count the same, so that routing does nothing; 0 that each cell listens to one head.

# %%
figures.show(mazes_routing.routing, table);

# %% [markdown]
# ## The answer of this run
#
# Beside the run's own files lie those that the published plan names: `scaling_results_maze{n}.json`, `scaling_plot_maze{n}.png`
# and `scaling_summary_maze{n}.txt`, which is printed here.

# %%
print(report.write_plan(table, run.dir))
run.finish(report.summary(table))
