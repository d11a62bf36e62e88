# Two commands do everything on a machine that has only Python >= 3.11:
#   make quickstart   environment, then the main job on the embedded synthetic corpus
#   make test         environment, then lint, types and the test suite, of its longest tests a sample
# make test-unit is the tier that runs while one edits; make test-all leaves nothing out.
PYTHON ?= python3
VENV ?= .venv
OUT ?= quickstart_output
BIN := $(VENV)/bin

.PHONY: environment quickstart test test-unit test-all lint registry types docs benchmarks clean

environment: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("ecg_hf needs Python >= 3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: environment
	$(BIN)/ecg-hf quickstart --output $(OUT)

SITE := docs/*.py docs/examples
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: lint types
	$(PYTEST) --sample

test-unit: environment
	$(PYTEST) -m unit

test-all: lint types
	$(PYTEST)

lint: environment
	$(BIN)/ruff check src tests scripts benchmarks $(SITE)
	$(BIN)/ruff format --check src tests scripts benchmarks $(SITE)

# After a change of the registry of methods: type stub, README's table, links of the package.
registry: environment
	$(BIN)/python scripts/follow_registry.py

types: environment
	$(BIN)/mypy

# The site in docs/_build/html. The build itself needs no network; it runs every example and prints its seconds.
docs: environment
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html

# One table on the screen and in benchmarks/results.md; ARGS=--all for what takes long.
benchmarks: environment
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/run.py $(ARGS)

clean:
	rm -rf $(VENV) $(OUT) docs/_build docs/gallery docs/written .mypy_cache .pytest_cache .ruff_cache
