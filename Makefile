# `make help` lists the targets. Each sets up .venv itself, once, and again when the dependencies change.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install train test test-slow check docs format ui

PYTHON ?= python3
BIN := .venv/bin
BASE := .venv/.installed-base
DEV := .venv/.installed-dev

# $(call setup,<requirement>): installs into .venv, with a line for each package.
setup = $(PYTHON) -m venv .venv; \
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
		-c constraints.txt -e '$(1)' \
		| sed -un -e 's/^Collecting \([^ ]*\).*/  \1/p' -e 's/^Installing collected.*/  installing .../p'; \
	touch $@

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(DEV) ## Set up .venv with everything: all extras but gpu, and the tools for development

$(BASE): pyproject.toml constraints.txt
	@echo "Setting up .venv: downloads about 870 MB once (3.1 GB on disk), and takes some minutes."
	@$(call setup,.)

$(DEV): $(BASE)
	@echo "Installing the extras and the tools for development into .venv."
	@$(call setup,.[dev])

train: $(BASE) ## Train a tiny network on generated frames, without any download
	@$(BIN)/python -m pwc_exp.train experiment=quickstart

test: $(DEV) ## Run the tests, but for the slow ones
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(DEV) ## Run the slow tests
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

check: $(DEV) docs ## Check format, style, types, layers, and the links of the documentation
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(DEV) ## Build the documentation into site/, with every link checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "documentation: site/index.html; with search: $(BIN)/python -m http.server --directory site"

format: $(DEV) ## Format the code, and repair what ruff can
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .

ui: $(BASE) ## Show all runs in MLflow and TensorBoard, until Ctrl-C
	@mkdir -p outputs
	@$(BIN)/python -m pwc_exp.ui
