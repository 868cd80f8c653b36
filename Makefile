# Each target sets itself up in .venv first: Python 3.11 and make are all that a machine needs.

PYTHON ?= $(firstword $(shell command -v python3.11) $(shell command -v python3))
PYTEST_FLAGS ?= -n 2 --dist loadfile
BIN := .venv/bin/python
STAMP := .venv/.installed

# The pins hold in the build environments of source packages too: pip before 25.3 takes them from the first variable,
# later ones from the second. DeepSpeed's kernels stay uncompiled: nid_dist uses none of them.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export DS_BUILD_OPS := 0

.PHONY: help install test test-gpu lint types format audit quickstart clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' Makefile

install: $(STAMP) ## set up .venv, and nothing else

test: lint types ## lint, types, then all tests
	OMP_NUM_THREADS=1 $(BIN) -m pytest $(PYTEST_FLAGS)

# NID_DIST_TEST_DEVICE=cpu tries the suite where there is no GPU.
test-gpu: $(STAMP) ## on a GPU, in three minutes: losses are the CPU's, nobody waits, every command runs
	@$(BIN) -c 'import os, sys, torch; torch.cuda.is_available() or "NID_DIST_TEST_DEVICE" in os.environ or sys.exit("make test-gpu: found no GPU, expected one; run it on a machine that has one")'
	OMP_NUM_THREADS=4 $(BIN) -m pytest -q -o python_files='suite_*.py' tests/gpu

lint: $(STAMP) ## ruff: rules and format
	$(BIN) -m ruff check
	$(BIN) -m ruff format --check

types: $(STAMP) ## mypy
	$(BIN) -m mypy

format: $(STAMP) ## fix what ruff can fix
	$(BIN) -m ruff check --fix
	$(BIN) -m ruff format

# Of one's own, so that nothing of it is pinned or shipped; strict, so that a list that was not reached is no clean bill.
audit: $(STAMP) ## look the pins up in PyPI's list of known vulnerabilities (network)
	@test -x .venv/audit/bin/pip-audit || { $(BIN) -m venv .venv/audit && PIP_CONSTRAINT= .venv/audit/bin/python -m pip install --quiet pip-audit; }
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

quickstart: $(STAMP) ## train, fit and compare on the embedded photographs
	$(BIN) -m nid_dist.cli.quickstart

clean: ## remove caches and build products; runs/ and .venv stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find launch nid_dist tests -name __pycache__ -type d -prune -exec rm -rf {} +

# PyTorch comes first, in a step of its own: asked for by another package's range, pip would take the newest CUDA build.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: found no python3.11 and no python3 on PATH; install Python 3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit("make: found Python %d.%d at $(PYTHON), expected 3.11 or newer; install it, or name it: make PYTHON=/path/to/python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Setting up .venv, once: a few minutes and 2 GB or more"
	@$(BIN) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || "$(PYTHON)" -m venv --clear .venv
	$(BIN) -m pip install --quiet torch
	$(BIN) -m pip install --quiet --editable '.[test]'
	@touch $@
