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
# # Four ideas for cheaper inference: what came out
#
# Results of all experiments, from their runs alone: no model is loaded, and no number is typed. Each section says what to look for,
# shows the figures with their captions, then the main table and what came out of it. At the end stands every claim, expected range and
# estimate of the four published plans, with the verdict that the runs give it.
#
# The figures are also files, PDF and PNG with the plotted numbers, in `figures/`, each with its commit and runs in `<name>.json`.
# To see other runs, change the parameters; to make them, `make demo` (minutes) or `make standard` (an hour and more).

# %% tags=["parameters"]
preset: str = ""  # which runs are shown: quick, standard, full, ...; empty: of each experiment the newest sweep's
runs_dir: str = ""  # where run folders are; empty: runs/

# %%
from lib.paper_page import Paper

paper = Paper(preset, runs_dir)

# %% [markdown]
# ## Drawing many samples: does branching where the model is unsure save more on larger models?
#
# Look at the slope of `eab` and `eab_sequential` (the method as published) beside `batched`, which anybody can have. The waterfall says which
# part of a speedup is batching, which the engine, and which the tree; the quality panels, whether the samples are still the model's:
# the vertical line is what independent draws give, and being right of it is no better than being left.

# %%
paper.show("1a3_speedup", "1a3_size", "1a3_waterfall", "1a3_quality", "1a3_growth", "1a3_time_saved", "1a3_table")

# %% [markdown]
# ## Speculative decoding: what do n-gram lookup and EAGLE buy?
#
# Above 1 a method is faster than decoding without drafts. Then: which kinds of requests make it so (the share of the answer that the
# prompt holds already), how far ahead drafts stay right, whether the time follows from that, what the best number of drafted
# tokens would have been, and from which batch size on it no longer pays.

# %%
paper.show("2a_speedup", "2a_categories", "2a_positions", "2a_predicted", "2a_replay", "2a_batch", "2a_table")

# %% [markdown]
# ## Mazes: does PoH-HRM beat a plain transformer as both grow?
#
# Three comparisons in one: with the baseline of the plan (`stack`), at equal parameters (`stack_params`), and with what shares its idea
# without its parts (`loop`; at equal arithmetic, `stack_flops`). A gain over the first two that is gone against the last two comes from
# repeating a block, not from routing heads. The later figures ask what repetition, routing and training time each do.

# %%
paper.show("3a_scaling", "3a_refinement", "3a_larger", "3a_fits", "3a_pareto", "3a_routing", "3a_training", "3a_table")

# %% [markdown]
# ## The bridge: can one model tell another what it read?
#
# First the controls: an answer that survives a destroyed message did not come from the message, and a tuned prompt that never sees the
# question is the height to pass. Then what keeps a training from collapsing, each fix alone and against each fault of the published
# code; how many soft tokens it takes; and whether it works beyond arithmetic.

# %%
paper.show("4a_controls", "4a_factors", "4a_stressors", "4a_curves", "4a_tokens", "4a_tasks", "4a_table")

# %% [markdown]
# ## The wire: what does the message cost in bytes?
#
# Up and left is good. A message has to beat the question as text, and text can be coded as well: look where the text coders stand
# before reading the codecs. The plan's own sizes are exact and need no training.

# %%
paper.show("4b_bytes", "4b_frontier", "4b_overhead", "4b_payback", "4b_geometry", "4b_table")

# %% [markdown]
# ## Inference: what does it save in time and memory?
#
# Hatched is the source's own work, which a message saves only where somebody else pays for it. Break-even says what the source may
# cost for a message to pay.

# %%
paper.show("4c_stages", "4c_throughput", "4c_memory", "4c_breakeven", "4c_table")

# %% [markdown]
# ## The claims, decided
#
# One row per claim, expected range, hypothesis and estimate of the plans. *Inconclusive* is an answer: so many replicates could not
# have found it. *Not run at this scale* is none. Intervals are 95 %; tests are adjusted (Holm) within each plan. What each row rests
# on, with p-values, power and runs, is in [docs/results.md](../docs/results.md) and in `python -m lib.claims`.

# %%
from lib.claims import report
from lib.claims.__main__ import decided

verdicts, notes = decided(preset, runs_dir=runs_dir or None)
print(report.counts(verdicts), *notes, sep="\n")
columns = ["id", "claim", "expected", "measured", "interval", "n", "verdict", "figure"]
report.frame(verdicts)[columns].style.hide(axis="index").set_properties(**{"text-align": "left"})
