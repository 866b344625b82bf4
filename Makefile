# Two commands for a newcomer: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test coverage lint bench hostile package-list clean help

help:
	@echo "make demo   segment a real CT and show where picture, segmentation and volumes lie"
	@echo "make test   run all tests (ARGS='-m \"not slow\"' for the quick ones)"
	@echo "make coverage  run all tests and show what they do not reach"
	@echo "make lint   ruff and mypy"
	@echo "make package-list   write the list of the extension's files anew, after adding or removing one"
	@echo "make hostile  thousands of spoilt files and hundreds of kills (about half an hour; ARGS='--kind nrrd')"
	@echo "make bench  speed and memory against the plain way (about an hour)"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/multiorganseg demo

PYTEST = $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal --durations=10

test: $(STAMP)
	$(PYTEST) $(ARGS)

coverage: $(STAMP)
	$(PYTEST) --cov --cov-report=term:skip-covered $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

package-list: $(STAMP)
	$(BIN)/python Testing/packaging/list_files.py

bench: $(STAMP)
	$(BIN)/python Testing/benchmarks/inference.py --output build/benchmarks

hostile: $(STAMP)
	$(BIN)/python Testing/hostile/run.py $(ARGS)

clean:
	rm -rf $(VENV) build demo-output .demo-data
