# Each target makes what it needs: on a fresh machine `make demo` or `make test` is all there is to type.
PYTHON ?= python3
PROFILE ?= demo
BIN := .venv/bin
# ONLY=trainings leaves the other notebooks out.  CUDA_VISIBLE_DEVICES=0,1 takes only those GPUs.
GRAPH = $(BIN)/snakemake $(ONLY) --profile workflow/profiles/local --quiet rules --config

.PHONY: setup demo test lab study plan new-data reference verify predict benchmark

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

# Hours and disk beforehand; DEVICE="..." takes the speeds that runs/reference/benchmarks has of another device.
plan: setup
	$(BIN)/python -m chromolib.plan $(PROFILE) $(if $(DEVICE),--device '$(DEVICE)')

# Your own images: writes parameters/dataset/<name>.yaml for a folder, and prints what it found.
new-data: setup
	$(BIN)/python -m chromolib.datasets new '$(FOLDER)' $(if $(STAIN),--stain '$(STAIN)')

reference: setup
	$(BIN)/python -m chromolib.report publish $(PROFILE)

verify: setup
	$(BIN)/python -m chromolib.runs verify $(PROFILE)

# Classes, karyograms and karyotypes of your own images: RUN=mini/q_band/efficientnet_lite0/imagenet FOLDER=/data/cells
# For research, no diagnosis. Further options as OPTIONS="--grad-cam --size".
predict: setup
	$(BIN)/python -m chromolib.predict '$(RUN)' '$(FOLDER)' $(OPTIONS)

benchmark: setup
	env -u OMP_NUM_THREADS $(BIN)/python benchmarks

test: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/pytest --numprocesses auto --dist loadfile \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout 1200 tests notebooks

lab: setup
	$(BIN)/jupyter lab --notebook-dir=notebooks
