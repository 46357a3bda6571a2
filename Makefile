# Needs Python 3.11 or newer and make. `make help` lists the targets.
# PYTHON=python3.12 chooses the interpreter, VENV=.venv312 the environment.

VENV ?= .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check install -qq --no-warn-script-location
WORKDIR ?= runs/quickstart

# The first of these that runs, has venv and is new enough.
FIND_PYTHON = for p in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	    && { echo $$p; break; }; done

.DEFAULT_GOAL := help
.PHONY: help quickstart demo docs test lint format parameters keys parity bench measure reproduce clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: $(VENV)/.requirements  ## install, train a small SCHA-VAE on procedural characters, evaluate, write pictures
	@echo "Training configs/quickstart.py into $(WORKDIR)"
	@$(RUN) train.py --config=configs/quickstart.py --workdir=$(WORKDIR)
	@$(RUN) evaluate.py --workdir=$(WORKDIR) --tasks=likelihood,sample,report
	@echo "All of it in a browser: $(WORKDIR)/report.html"

demo: $(VENV)/.requirements  ## draw a character in the browser, and a trained model draws more of it
	@$(RUN) -m hfsgm_jax.programs.front demo $(DEMO)

docs: $(VENV)/.dev  ## the documentation as a site, build/docs/index.html
	@$(RUN) -c 'import furo, myst_parser, sphinx' 2>/dev/null || $(PIP) -e '.[docs]'
	@JAX_PLATFORMS=cpu $(RUN) -m sphinx -q docs/site build/docs

test: lint  ## lint, then the test suite
	@JAX_PLATFORMS=$${JAX_PLATFORMS:-cpu} $(RUN) -m pytest -q -n auto --maxprocesses=4 --dist=worksteal

lint: $(VENV)/.dev  ## ruff check and format check, shellcheck
	@$(RUN) -m ruff check -q --output-format=concise .
	@$(RUN) -m ruff format -q --check . || { echo "Badly formatted: run 'make format'."; exit 1; }
	@$(VENV)/bin/shellcheck .ci/run launch/*.sh launch/*.sbatch benchmarks/*.sh

format: $(VENV)/.dev  ## format the code and fix what ruff can fix
	@$(RUN) -m ruff check -q --fix . ; $(RUN) -m ruff format -q .

parameters: $(VENV)/.dev  ## count the parameters of every config, and write the table of docs/configs.md
	@$(RUN) -m scripts.parameters

keys: $(VENV)/.dev  ## write docs/keys.md, the page of all keys of a config
	@$(RUN) -m scripts.keys

parity: $(VENV)/.dev  ## compare our models with the reference implementation, and write docs/parity.md
	@JAX_PLATFORMS=cpu $(RUN) -m scripts.parity

bench: $(VENV)/.requirements  ## render docs/benchmarks.md from benchmarks/results
	@$(RUN) -m scripts.benchmarks_page

measure: $(VENV)/.requirements  ## measure this machine into benchmarks/results (about 12 minutes on two idle cores), then render
	@$(RUN) -m benchmarks.run benchmarks/standard.txt $(MEASURE); status=$$?; $(RUN) -m scripts.benchmarks_page; exit $$status

reproduce: $(VENV)/.requirements  ## list how every number in README and docs/results.md was made
	@$(RUN) -m scripts.reproduce

clean:  ## remove the environment and caches; runs are kept
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN):
	@python="$$($(FIND_PYTHON))"; \
	  [ -n "$$python" ] || { echo "No Python >= 3.11 with venv found: install one, or run make with PYTHON=/path/to/python3."; exit 1; }; \
	  [ -z "$(PYTHON)" ] || [ "$$python" = "$(PYTHON)" ] || { echo "PYTHON=$(PYTHON) is not Python >= 3.11 with venv."; exit 1; }; \
	  echo "Creating $(VENV) with $$($$python --version)"; \
	  $$python -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.requirements: requirements.txt | $(RUN)
	@echo "Installing requirements (first time: a few minutes)"
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev: pyproject.toml requirements.txt | $(VENV)/.requirements
	@echo "Installing the package and its development tools"
	@$(PIP) -e '.[dev]'
	@touch $@
