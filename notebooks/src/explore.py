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
# # What else is in the measurements?
#
# Every finished run leaves rows (`measurements.jsonl`), and the figures use some of their columns. Here is any column over any
# other, from all finished runs of an experiment. In JupyterLab choose below the next cells; executed without a page, the
# parameters choose, and what is left empty is suggested.

# %% tags=["parameters"]
experiment: str = ""  # such as 1a3_scaling; empty: the one whose run is newest
protocol: str = ""  # kind of rows, such as fixed or law; empty: the usual one
x: str = ""  # column along the horizontal axis: a number or a name
y: str = ""  # column whose median is shown: a number
hue: str = ""  # column that tells lines apart; none: all rows together
preset: str = ""  # runs of this preset alone; empty: all finished runs
runs_dir: str = ""  # where run folders are; empty: runs/

# %% [markdown]
# ## Picture and table
#
# Medians over replicates (prompts, seeds or batches; faint dots), after everything else that a replicate has, such as repeats, was
# reduced to its own median. Intervals are 95 %, bootstrapped over replicates, and left out below six. Look at n before you look
# at a difference: these are rows of possibly different models and settings, and nothing here is adjusted for how often one looks.

# %%
from lib.explore import panel

panel.show(experiment, protocol, x, y, hue, preset, runs_dir)

# %% [markdown]
# ## And now?
#
# What stands up to a test is decided in [paper_figures](paper_figures.ipynb) and by `python -m lib.claims`. For questions that need
# more than one column over another, the same rows are a data frame away: `runs.load("1a3_scaling")` after `from lib import runs`.
