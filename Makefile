# What people and CI call. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
QUICK := --numprocesses 2 -m "not server and not browser and not model" --dist worksteal
WHOLE := --numprocesses 3 --dist loadfile --no-loadscope-reorder
SEED ?= 1
INPUT ?= input
OUTPUT ?= output
N ?= 500
PYTHONS := 3.11 3.12 3.13 3.14 3.14.1
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run ui review test quick chromium lint evaluate bench constraints mac clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-16s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Caption the pictures in input/ into output/ with the embedded model
	@$(BIN)/python flows/caption_flow.py --input-dir input --output-dir output \
		--model models/flowcharts-3m-8bit
	@echo "The captions: output/captions.json, and to look through output/index.html." \
		"What was skipped and how long it took: output/summary.json."

ui: $(VENV)/.run ## Prefect's UI, the deployments and a worker, until Ctrl-C; NOTIFY=URL for messages
	@$(BIN)/python -m flows.hosting.ui $(NOTIFY)

review: $(VENV)/.run ## Correct the captions of OUTPUT in a browser, beside the pictures of INPUT
	@$(BIN)/python -m captioner.review $(OUTPUT) --input-dir $(INPUT)

test: chromium lint ## Lint, then run the whole test suite, three files at a time: they wait a lot
	$(BIN)/python -m pytest $(WHOLE)

quick: $(VENV)/.test ## The tests without a server, a browser or a model
	$(BIN)/python -m pytest $(QUICK)

chromium: $(VENV)/.test
	@$(BIN)/python -m tests.chromium

lint: $(VENV)/.test ## ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

evaluate: $(VENV)/.pictures ## How right the embedded model is on N pictures made from SEED
	$(BIN)/python models/training/evaluate.py --seed $(SEED) --n $(N)

bench: $(VENV)/.run ## Measure the flow against its peers (takes a while; wants a quiet machine)
	$(BIN)/python -m benchmarks.throughput

constraints: $(VENV)/.test ## Resolve the newest allowed versions into constraints.txt
	$(PIP) install uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --no-header \
		--no-annotate --upgrade --quiet --output-file constraints.txt pyproject.toml

mac: $(VENV)/.test ## Resolve for macOS 14 and Python 3.11 to 3.14; with WHEELS=folder also download
	$(PIP) install uv
	@for version in $(PYTHONS); do \
		MACOSX_DEPLOYMENT_TARGET=14.0 $(BIN)/uv pip compile --quiet --no-header --no-annotate \
			--python-platform aarch64-apple-darwin --python-version $$version \
			--constraint constraints.txt --only-binary :all: \
			--output-file $(VENV)/mac-$$version.txt pyproject.toml \
		&& echo "Python $$version: $$(grep -c == $(VENV)/mac-$$version.txt) packages" || exit 1; \
	done
	$(if $(WHEELS),$(PIP) download --no-deps --only-binary :all: --platform macosx_14_0_arm64 \
		--python-version 3.12 --dest $(WHEELS) --requirement $(VENV)/mac-3.12.txt)

clean: ## Remove the virtual environment and what a run wrote
	rm -rf $(VENV) output

# Each stamp says that the environment holds what pyproject.toml asks for. On a Mac, [cpu] adds nothing.
$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (about 1.1 GB; a minute or two)..."
	@$(PIP) install --constraint constraints.txt --editable '.[cpu]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV), with what the tests need..."
	@$(PIP) install --constraint constraints.txt --editable '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.pictures: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) install --constraint constraints.txt --editable '.[cpu,pictures]'
	@touch $@ $(VENV)/.run

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Install one" \
			"(on a Mac: brew install python@3.13), then make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
