# Everything starts here: a virtual environment is made and filled on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n auto --dist worksteal

.PHONY: help serve test test-quick test-long test-compiled lint format types bench interop docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

serve: $(VENV)/.serve  ## run the server and its page on http://127.0.0.1:8000 (PORT=8001, ARGS=...)
	$(BIN)/python -m patches_server $(if $(PORT),--port $(PORT)) $(ARGS)

test: $(VENV)/.test  ## run every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-quick: $(VENV)/.test  ## run the tests that take moments: under two minutes on two cores
	$(BIN)/python -m pytest -m "not long" $(PYTEST_ARGS)

test-long: $(VENV)/.test  ## run the others: simulation, kill rounds, interop, browser
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

lint: $(VENV)/.dev  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## mypy, strict
	$(BIN)/mypy

format: $(VENV)/.dev  ## ruff: mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-compiled: $(VENV)/.dev  ## conformance and property tests on the core compiled by mypyc
	rm -rf .compiled && mkdir .compiled
	git ls-files --cached --others --exclude-standard | tar -c -T - | tar -x -C .compiled
	cd .compiled && $(abspath $(BIN))/python hatch_build.py
	cd .compiled && $(abspath $(BIN))/python -m pytest -m "not interpreted" $(PYTEST_ARGS) \
		tests/conformance tests/json_patch tests/text tests/algorithms tests/documents tests/model
	rm -rf .compiled

interop: $(VENV)/.test  ## many rounds with a model of the original's client and server
	INTEROP_ROUNDS=$${INTEROP_ROUNDS:-50} $(BIN)/python -m pytest tests/interop $(PYTEST_ARGS)

bench: $(VENV)/.test  ## measure, beside the peers that are installed (QUICK=1: two minutes)
	$(BIN)/python -m benchmarks.peers.table
	[ -n "$(QUICK)" ] || $(BIN)/python -m benchmarks

docs: $(VENV)/.docs  ## make the site of the documentation in build/docs
	$(BIN)/python docs/site/build.py

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .compiled .pytest_cache .hypothesis .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,dev]'
	touch $@
