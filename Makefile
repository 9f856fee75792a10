# Set up, run, test. `make cycle` and `make test` are all a newcomer needs.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# On a public machine give PyTorch's CPU wheel index here; without one, pip takes what its own settings name.
TORCH_INDEX ?=
# A worker a core, each with servers of its own; whole files go to a worker, in the order of their names. One more takes
# a tenth less time, but then tests that wait for something quick may wait too long.
WORKERS ?= -n logical --maxprocesses 4
PARALLEL ?= $(WORKERS) --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help setup cycle test check format bench bench-serving images soak clean
help: ## Show what there is.
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready ## A virtual environment in .venv with pinned dependencies.

.venv/ready: pyproject.toml model_modules/image_classifier/pyproject.toml deployments/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install -q 'torch==2.13.0' $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install -q -c deployments/constraints.txt hatchling editables
	$(PIP) install -q -c deployments/constraints.txt --no-build-isolation \
		-e '.[cycle,dev]' -e './model_modules/image_classifier[train]'
	$(BIN)/python -m volvox.stack.prefect_database
	$(BIN)/python -m compileall -q volvox flows tasks blocks deployments model_modules  # once, not at every start
	touch $@

cycle: setup ## The whole cycle on scanned handwritten digits, then a page to try the model.
	$(BIN)/volvox cycle --demo

test: setup ## All tests: of each model module alone, then of the platform.
	for module in model_modules/*/; do (cd $$module && ../../$(BIN)/python -m pytest $(WORKERS)) || exit; done
	$(BIN)/python -m pytest $(PARALLEL)

check: setup ## Lint, format, types and import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup ## Put the code in form.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## Measure: the cycle against a plain script, imports, and serving images where there is an engine.
	$(BIN)/python -m benchmarks.cycle
	$(BIN)/python -m benchmarks.imports
	$(BIN)/python -m benchmarks.images

bench-serving: setup ## Measure the model server against DEEPaaS, LitServe, BentoML, MLflow and FastAPI (long).
	$(BIN)/python -m benchmarks.serving

images: setup ## Build the serving images that champions lack, and the image that stages run in on a pool.
	$(BIN)/volvox images
	TORCH_INDEX=$(TORCH_INDEX) $(BIN)/volvox images --training

soak: setup ## Full-size fault runs (long).
	$(BIN)/python -m pytest -m soak --timeout 3600

clean: ## Remove the virtual environment and caches; models and runs stay in VOLVOX_HOME.
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache
