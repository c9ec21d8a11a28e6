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
# # Where to start: what are the four ideas, in two minutes?
#
# Each picture below is one real example of one experiment: small trained models at work, nothing recorded beforehand. Run all
# cells (in JupyterLab: *Run > Run All Cells*), then move the sliders.
#
# The models come from the cache that `make demo` fills. What is missing there is trained first, with a progress bar, the
# cheapest first: on an idle core about 45 seconds for the two language models, 15 for the maze model, and 4 minutes for
# the two models of the last picture and the bridge between them.

# %% tags=["parameters"]
model: str = "ladder-160k"  # ladder name, short name, hub id or folder: who generates
draft_model: str = "ladder-60k"  # a smaller model with the same vocabulary: who drafts
prompt_tokens: int = 80  # length of the prompt
threshold: float = 0.055  # EAB branches above this entropy, as a share of ln |V|
mazes: str = "quick"  # preset of 3a whose loop is shown
bridge: str = "quick/1a_stable_8tok"  # PRESET/LABEL of 4a, or one of its finished runs
seed: int = 0  # of the prompt and of all that is drawn

# %%
import torch

from lib import lab, tour
from lib.data.prompts import natural_prompts
from lib.models import hub

torch.set_num_threads(1)
target, drafter = hub.load(model), hub.load(draft_model)
name = tour.names(target.tokenizer)
(prompt,) = natural_prompts(target.tokenizer, 1, prompt_tokens, seed)
lab.say("> " + prompt.text.replace("\n", "\n> "))

# %% [markdown]
# ## 1. Branch where the model is unsure
#
# Entropy-adaptive branching (EAB) reads this prompt once, decodes one path, and splits it where the entropy of the next
# token is high. Each box is a token; its colour, and its height below, say how unsure the model was *behind* it. Lines are as
# thick as their token was likely. Look for the boxes with a dark frame: there the entropy reaches the threshold. They split into
# up to three, as long as there are fewer than eight paths; where scissors are, pruning made room.

# %%
from lib.generators.common import SamplingParams
from lib.tour import tree, tree_picture

thresholds = sorted({0.01, 0.02, 0.11, 0.14, 0.2, threshold})
law = {"num_samples": None, "max_new_tokens": 14, "max_paths": 8, "stop_ids": target.stop_ids}
ids = torch.tensor(prompt.ids, device=target.device)
trees = {t: tree.grow(target.model, ids, SamplingParams(**law, threshold=t), seed) for t in thresholds}
lab.steps(lambda t: tree_picture.picture(trees[t], name), thresholds, threshold, "threshold")
lab.say(tree.reading(trees, threshold))

# %% [markdown]
# What it saves is the shared beginnings. What it costs: all paths count alike, however unlikely the branch that they hang on,
# so the samples are no longer the model's. [1a3_scaling](1a3_scaling.ipynb) measures both.
#
# ## 2. Let somebody cheap guess, and check
#
# The smaller model drafts five tokens, the larger one verifies them in a single forward. A token that both like is kept; a
# rejected one is replaced by the larger model's own, and if all are kept it adds one. A drafted token stays with probability
# min(1, p / q), which keeps the output exactly the larger model's. Look at the bars of a rejected token: p far below q.

# %%
from lib.generators.speculative.common import Decoding, Speculation
from lib.tour import draft, draft_picture

how = Speculation("draft", draft_sample_method="probabilistic")
what = Decoding(max_new_tokens=28, temperature=0.8, stop_ids=target.stop_ids)
story = draft.tell(target.model, drafter.model, prompt.ids, how, what, seed)
steps = range(1, len(story.steps) + 1)
lab.steps(lambda step: draft_picture.picture(story, step - 1, name), steps, story.surest_mistake + 1, "step")
lab.say(draft.reading(story))

# %% [markdown]
# Fewer forwards are less time only where drafting is cheap. [2a_specdec](2a_specdec.ipynb) measures that, with n-gram lookup
# and EAGLE heads as drafters too.
#
# ## 3. Think again about a maze
#
# The same few blocks of a transformer are applied again and again, and after each round every cell says which way the goal
# (star) is. Orange arrows are wrong; the grey line is the walk from the dot. Look how right arrows spread from the
# goal, and that they go on spreading beyond the number of rounds that the model was trained with, in a maze larger than any it saw.

# %%
from functools import partial

from lib.tour import maze, maze_picture

refined = maze.refine(mazes)
rounds = range(1, len(refined.policies) + 1)
strip = partial(maze_picture.strip, refined)
lab.steps(partial(maze_picture.picture, refined), rounds, refined.trained, "refinement", strip)
lab.say(maze.reading(refined))

# %% [markdown]
# Does a controller that weighs attention heads (PoH-HRM) do better than this plain loop? [3a_poh_scaling](3a_poh_scaling.ipynb) asks.
#
# ## 4. Send a thought instead of a text
#
# One model reads a question, a trained bridge turns what it read into a few vectors, and another model answers from these
# alone. On the way they are bytes. Move from fp32 to int2: the frame shrinks, the colours become coarse, and somewhere the answer
# goes wrong. The frame also holds what is no message: header, scales, anchor text, checksum. Compare it with the text above it.

# %%
from lib.tour import message, message_picture

crossing = message.cross(bridge)
lab.steps(partial(message_picture.picture, crossing), list(crossing.sent), "int4", "codec")
lab.say(message.reading(crossing))

# %% [markdown]
# [4a_bridge](4a_bridge.ipynb) asks what keeps such a bridge from collapsing, [4b_wire](4b_wire.ipynb) what it costs in bytes, and
# [4c_inference](4c_inference.ipynb) what it saves in time and memory.
#
# ## Where to go from here
#
# | notebook | asks |
# |---|---|
# | [1a3_scaling](1a3_scaling.ipynb) | Does EAB save more on larger models, and are its samples still the model's? |
# | [2a_specdec](2a_specdec.ipynb) | What do n-gram and EAGLE self-drafting buy? |
# | [3a_poh_scaling](3a_poh_scaling.ipynb) | Does PoH-HRM beat a plain transformer on mazes as both grow? |
# | [4a_bridge](4a_bridge.ipynb) · [4b_wire](4b_wire.ipynb) · [4c_inference](4c_inference.ipynb) | Can a model tell another what it read in a few vectors; in how many bytes; in how much less time? |
# | [explore](explore.ipynb) | Any column of any experiment's measurements against any other |
# | [paper_figures](paper_figures.ipynb) | Every figure, and the verdict on every claim |
#
# Type next, in a terminal: `make demo` (every experiment, small, in minutes), `papermill nb/1a3_scaling.ipynb -p model ladder-1m`
# (one run with one parameter changed), `python -m lib.sweep 1a3_scaling --preset quick` (a grid), `python -m lib.claims` (the verdicts).
