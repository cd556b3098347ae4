# QEPA. `make ward` shows the whole system at work; `make test` checks it.

VENV ?= .venv
PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
ALONE := tests/e2e/test_ward.py
BIN := $(VENV)/bin

.PHONY: ward test lint format bench install dev clean

ward: $(VENV)/.ward
	@$(BIN)/qepa ward $(ARGS)

test: lint
	$(BIN)/pytest -n $(WORKERS) --ignore=$(ALONE)
	$(BIN)/pytest $(ALONE)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/qepa bench

install: $(VENV)/.ward
dev: $(VENV)/.dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v[:2] <= (3, 13) and f"QEPA needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: try make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: on Debian, apt install python3-venv"; exit 1; }

$(VENV)/.ward: pyproject.toml tools/qepa_tools/fleet/package-lock.json | $(VENV)/bin/python
	$(BIN)/pip install --disable-pip-version-check -e '.[ward]'
	$(BIN)/python -m qepa_tools.fleet.runtime
	@touch $@

$(VENV)/.dev: $(VENV)/.ward
	$(BIN)/pip install --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m qepa_tools.unix_port.runtime
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
