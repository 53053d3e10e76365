# Everything runs in .venv, made from constraints.txt by whichever Python 3.11+ is there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo dev test lint types imports prose check bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## Make .venv with what the pipeline needs

.venv/installed: pyproject.toml constraints.txt tools/install.py
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) tools/install.py .
	touch $@

.venv/developing: .venv/installed
	$(PYTHON) tools/install.py '.[dev]'
	touch $@

# in a folder without .env and defs, so that the sample rows never go into a database of the user's
demo: install ## Run everything with sample rows on an embedded Postgres, whatever .env says; Ctrl-C ends it
	mkdir -p .data
	cd .data && env -u DATABASE_URL -u DAGSTER_POSTGRES_URL -u DEFINITIONS_DIR -u GENERATED_IMAGES_URL DATA_DIR=. \
		$(abspath $(BIN))/matching-pipeline dev --sample-data

dev: install ## Run everything on DATABASE_URL, or on an embedded Postgres
	$(BIN)/matching-pipeline dev

# More workers than cores: the tests wait for Postgres, HTTP and clocks too. Each computes in one thread. Bytecode is kept,
# whatever the environment says: the many processes that tests start would compile the same modules again.
test: .venv/developing ## Run all tests
	OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 4 --dist worksteal

lint: .venv/developing ## Check style
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/developing ## Check types
	$(BIN)/mypy

imports: .venv/developing ## Check which way imports point
	$(BIN)/lint-imports --no-cache

prose: .venv/developing ## Check documents, docstrings, comments and messages for plain English
	$(BIN)/python -m tools.prose

check: lint types imports prose test ## What CI runs

bench: .venv/developing ## Measure, and print what was measured
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks

clean: ## Remove the environment and the embedded database
	rm -rf .venv .data
