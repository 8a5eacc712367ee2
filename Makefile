# Each target makes what it needs: on a fresh machine `make demo` or `make test` is all there is to type.
# Without make: python -m chromolib, which these targets call, lists the same words.
PYTHON ?= python3
PROFILE ?= demo
STUDY := .venv/bin/python -m chromolib

.PHONY: setup demo test lab study plan new-data reference verify compare predict draw check benchmark book

setup: .venv/installed

# --no-compile: Python compiles what is used when it is first used, which saves a minute here and 0.4 GB.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-compile --editable '.[test]' --constraint constraints.txt
	touch $@

demo test lab check book: setup
	$(STUDY) $@

# ONLY=trainings leaves the other notebooks out.  CUDA_VISIBLE_DEVICES=0,1 takes only those GPUs.
study: setup
	$(STUDY) study $(PROFILE) $(ONLY)

# Hours and disk beforehand; DEVICE="..." takes the speeds that runs/reference/benchmarks has of another device.
plan: setup
	$(STUDY) plan $(PROFILE) $(if $(DEVICE),--device '$(DEVICE)')

# Your own images: writes parameters/dataset/<name>.yaml for a folder, and prints what it found.
new-data: setup
	$(STUDY) new-data "$$FOLDER" $(if $(STAIN),--stain '$(STAIN)')

reference: setup
	$(STUDY) publish $(PROFILE)

verify: setup
	$(STUDY) verify $(PROFILE)

# Your own finished profile against the committed one: what differs, cell by cell.
compare: setup
	$(STUDY) compare $(PROFILE)

# Classes, karyograms and karyotypes of your own images: RUN=mini/q_band/efficientnet_lite0/imagenet FOLDER=/data/cells
# For research, no diagnosis. Further options as OPTIONS="--grad-cam --size".
predict: setup
	$(STUDY) predict '$(RUN)' "$$FOLDER" $(OPTIONS)

# Cells to try it on, with RUN=demonstration, a network that knows drawings alone: a cell a sub-folder of FOLDER.
draw: setup
	$(STUDY) draw "$$FOLDER" $(OPTIONS)

benchmark: setup
	env -u OMP_NUM_THREADS .venv/bin/python benchmarks
