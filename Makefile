# What a newcomer types. Each target sets up .venv by itself; nothing outside the checkout is touched.
# Works with GNU make 3.81 (macOS) and later; names are relative, so the checkout's path may hold spaces.

DEMO_CONFIG ?= configs/stm_database.py:cpu
DEMO_WORKDIR ?= runs/demo
ACCELERATOR ?= $(or $(shell cat .venv/accelerator 2>/dev/null),cpu)
PYTHON ?=
PYTEST_ARGS ?=

ifneq ($(filter-out cpu cuda12 cuda13,$(ACCELERATOR)),)
$(error ACCELERATOR=$(ACCELERATOR) is unknown: use cpu, cuda12 or cuda13)
endif

# jax keeps compiled programs here, so that the second run of anything starts faster.
export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/.jax_cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES = -1

READY := .venv/ready-$(ACCELERATOR)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))

.DEFAULT_GOAL := help
.PHONY: help demo test lint

help:
	@echo 'make demo    from simulated scans to a labelled database and a U-Net (minutes on a laptop), writes $(DEMO_WORKDIR)/report.html'
	@echo 'make test    runs the tests            (PYTEST_ARGS="tests/gan -k shape" for a part)'
	@echo 'make lint    checks the code with ruff'
	@echo
	@echo 'Options: ACCELERATOR=cuda12|cuda13|cpu  which jax goes into .venv (remembered; now $(ACCELERATOR))'
	@echo '         PYTHON=/path/to/python3.12     which Python makes .venv (3.11 or 3.12)'
	@echo '         DEMO_CONFIG=$(DEMO_CONFIG)  DEMO_WORKDIR=$(DEMO_WORKDIR)'

demo: $(READY)
	.venv/bin/python main.py --config="$(DEMO_CONFIG)" --workdir="$(DEMO_WORKDIR)"

test: $(READY)
	.venv/bin/python -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(READY)
	.venv/bin/python -m ruff check .

# A .venv of another accelerator is made anew: the CUDA 12 and CUDA 13 plugins of jax do not live together.
$(READY): requirements.txt requirements-dev.txt
	@if [ -e .venv/accelerator ] && [ "$$(cat .venv/accelerator)" != "$(ACCELERATOR)" ]; then rm -rf .venv; fi
	@if .venv/bin/python -c '$(SUPPORTED)' >/dev/null 2>&1; then exit 0; fi; \
	if [ -n "$(PYTHON)" ]; then set -- "$(PYTHON)"; else set -- python3.12 python3.11 python3 python; fi; \
	for candidate in "$$@"; do \
	    if "$$candidate" -c '$(SUPPORTED)' >/dev/null 2>&1; then exec "$$candidate" -m venv --clear .venv; fi; \
	done; \
	echo "Scanforge needs Python 3.11 or 3.12; none of these is one: $$*." >&2; \
	echo "Install one (python.org, your package manager, pyenv), or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
	exit 1
	@echo "Installing the pinned packages into .venv ($(ACCELERATOR); about 1.2 GB, more for CUDA) ..."
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt \
	    $(if $(filter cuda%,$(ACCELERATOR)),"jax[$(ACCELERATOR)]")
	@echo $(ACCELERATOR) > .venv/accelerator
	@touch $@
