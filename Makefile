# rcnnkit. `make quickstart` and `make test` need Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STOCK_DETECTRON2 ?=
PYTEST := $(BIN)/python -m pytest

.PHONY: help venv quickstart test test-all parity bench lint format

help:
	@echo "make quickstart   train and evaluate a small Mask R-CNN on the embedded data set; pictures in output/quickstart/"
	@echo "make test         lint, type check and the test-suite, with coverage"
	@echo "make test-all     the same with the slow tests and those on real data"
	@echo "make parity       compare live with stock Detectron2: make parity STOCK_DETECTRON2=/folder/with/detectron2"
	@echo "make bench        speed beside torchvision, pycocotools and (STOCK_DETECTRON2=...) stock Detectron2"
	@echo "make lint|format  check | rewrite the code's form"
	@echo "make venv         create or refresh $(VENV) with the pinned versions"

venv: $(STAMP)

$(STAMP): setup.py constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed, $$($(PYTHON) --version) found; name another: make PYTHON=python3.12 ..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --upgrade pip setuptools
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -c "import rcnnkit, torchvision"
	touch $(STAMP)

# Threads that wait for each other spin for microseconds only: on a busy machine the default would burn the other core.
quickstart: venv
	GOMP_SPINCOUNT=1000 $(BIN)/rcnnkit quickstart --output output/quickstart

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 -m "not slow and not parity" --cov --cov-report=term:skip-covered

test-all: lint
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 -m "not parity" --cov --cov-report=term:skip-covered

parity: venv
	OMP_NUM_THREADS=1 RCNNKIT_STOCK="$(STOCK_DETECTRON2)" $(PYTEST) -m parity tests
	OMP_NUM_THREADS=1 RCNNKIT_ENGINE=detectron2 PYTHONPATH="$(STOCK_DETECTRON2):$(PYTHONPATH)" $(PYTEST) -m "not slow and not parity" tests/rcnnkit tests/contracts
	OMP_NUM_THREADS=1 RCNNKIT_ENGINE=detectron2 PYTHONPATH="$(STOCK_DETECTRON2):$(PYTHONPATH)" $(PYTEST) -m slow tests/rcnnkit/test_quick_configs.py tests/rcnnkit/modeling

bench: venv
	RCNNKIT_STOCK="$(STOCK_DETECTRON2)" $(BIN)/python tools/bench.py --output bench --docs docs/benchmarks.md
