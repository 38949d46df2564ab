# `make help` lists the targets. Each sets up .venv itself, once, and again when the dependencies change.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install train test test-slow check format ui

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Set up .venv with everything

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Setting up .venv: downloads about 930 MB once, and takes some minutes."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
		-c constraints.txt -e '.[dev]' \
		| sed -un -e 's/^Collecting \([^ ]*\).*/  \1/p' -e 's/^Installing collected.*/  installing .../p'
	@touch $@

train: $(INSTALLED) ## Train a tiny network on generated frames, without any download
	@$(BIN)/python -m pwc_exp.train experiment=quickstart

test: $(INSTALLED) ## Run the tests, but for the slow ones
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(INSTALLED) ## Run the slow tests
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

check: $(INSTALLED) ## Check format, style, types and the layers
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Format the code, and repair what ruff can
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .

ui: $(INSTALLED) ## Show all runs in MLflow and TensorBoard, until Ctrl-C
	@mkdir -p outputs
	@$(BIN)/python -m pwc_exp.ui
