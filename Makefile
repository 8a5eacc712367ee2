# Each target makes what it needs: on a fresh machine `make demo` or `make test` is all there is to type.
PYTHON ?= python3
PROFILE ?= demo
BIN := .venv/bin
# ONLY=trainings leaves the other notebooks out.  A graph trains one network at a time where there is a GPU, and one on each core where there is none.
GPU := $(shell nvidia-smi -L 2>/dev/null)
GRAPH = $(BIN)/snakemake $(ONLY) --cores all $(if $(GPU),--resources gpu_slots=1) --quiet rules --rerun-incomplete --config

.PHONY: setup demo test lab study reference

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]' --constraint constraints.txt
	touch $@

demo: setup
	$(GRAPH) profile=demo
	@echo "The report: $(CURDIR)/runs/demo/index.html"

study: setup
	$(GRAPH) profile=$(PROFILE)
	@echo "The report: $(CURDIR)/runs/$(PROFILE)/index.html"

reference: setup
	$(BIN)/python -m chromolib.report publish $(PROFILE)

# One thread a worker: PyTorch's threads and several workers on the same cores slow each other down many times.
test: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout 1200 tests notebooks

lab: setup
	$(BIN)/jupyter lab --notebook-dir=notebooks
