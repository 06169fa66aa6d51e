# Everything a newcomer runs. Each target makes its own environment; nothing but the package registry is needed.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Bytecode is kept, even where the shell says otherwise: every program that a test starts begins twice as fast.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo setup test test-full test-page page faults check format docs bench notebooks notebooks-refresh clean

demo: $(VENV)/.run
	$(BIN)/sonde demo

setup: $(VENV)/.dev

test: $(VENV)/.dev
	$(BIN)/pytest -n auto --dist worksteal -m "not slow and not hub and not page"

test-full: $(VENV)/.dev
	$(BIN)/pytest -n auto --dist worksteal -m "not hub and not faults and not page"

# Hostile files, kills, signals, full disks, two writers, memory: the long form. `make test` takes a sample of it.
faults: $(VENV)/.dev
	$(BIN)/pytest -n auto --dist load -m faults tests/faults

# The page of `sonde serve` in a real browser: Debian's chromium. Without one every test is skipped, with a sentence.
test-page: $(VENV)/.dev
	$(BIN)/pytest -m page tests/page

# Makes the part of three.js that the page's point cloud uses, of the versions in tools/page: needs Node.js and npm.
page:
	cd tools/page && npm ci --ignore-scripts && npm run build

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/codespell sonde tests docs README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The documentation as a site, with the Python reference out of the docstrings: open site/index.html. No warning passes.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The performance table, docs/speed.md, on this machine: about half an hour. Close other programs first.
bench: $(VENV)/.dev
	$(BIN)/sonde bench --out docs/speed.md

# Opens the notebooks in a browser, or prints the address where there is none. They write below notebooks/runs.
notebooks: $(VENV)/.notebooks
	$(BIN)/jupyter lab notebooks

# Runs all notebooks, offline, and keeps their outputs in them: after a change of a notebook or of what it shows.
notebooks-refresh: $(VENV)/.dev
	$(BIN)/python tests/kept_notebooks.py

# What the demo needs; the versions are those of constraints.txt. pip compiles what it installs, which halves the first
# start of every program.
$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train]'
	touch $@

# What the tests need besides.
$(VENV)/.dev: $(VENV)/.run
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# What opens the notebooks.
$(VENV)/.notebooks: $(VENV)/.run
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[notebooks]'
	touch $@

# What the site needs besides.
$(VENV)/.docs: $(VENV)/.run
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# Decoded captures lie in the user's cache folder and serve all folders: `sonde doctor --clear-cache` removes them.
clean:
	rm -rf runs notebooks/runs .cache site
