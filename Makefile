# Everything a newcomer runs. Each target makes its own environment; nothing but the package registry is needed.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo setup test test-full faults check format clean

demo: $(VENV)/.run
	$(BIN)/sonde demo

setup: $(VENV)/.dev

test: $(VENV)/.dev
	$(BIN)/pytest -n auto --dist loadfile -m "not slow and not hub"

test-full: $(VENV)/.dev
	$(BIN)/pytest -n auto --dist loadfile -m "not hub and not faults"

# Hostile files, kills, signals, full disks, two writers, memory: the long form. `make test` takes a sample of it.
faults: $(VENV)/.dev
	$(BIN)/pytest -n auto --dist load -m faults tests/faults

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/codespell sonde tests docs README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What the demo needs; the versions are those of constraints.txt.
$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable .
	touch $@

# What the tests need besides.
$(VENV)/.dev: $(VENV)/.run
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf runs .cache
