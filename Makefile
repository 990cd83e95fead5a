# Everything a clone needs: Python 3.11 to 3.14, and make. `make` alone lists what there is.

PYTHON ?=
ARGS   ?=

VENV   := .venv
PIP    := $(VENV)/bin/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt
RUN    := $(VENV)/bin/python -m

# The first of these that is new enough and can make environments.
CANDIDATES = $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
SUITABLE   = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))

# Unless said exactly, pip takes PyTorch's newest build, which on Linux can bring gigabytes.
TORCH := torch==2.13.0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format fuzz bench docs wheel lines lock clean

help:
	@echo 'make demo    what forgetting is, and what MER does about it: real digits, under a minute'
	@echo 'make test    all tests; for some of them: make test ARGS="-k reservoir"'
	@echo 'make check   lint, formatting, types'
	@echo 'make format  put the code into the format that make check wants'
	@echo 'make fuzz    damaged files for every reader: make fuzz N=100000'
	@echo 'make bench   how fast, beside PyTorch and, where it is installed, JAX'
	@echo 'make docs    the documentation as a site, in site/'
	@echo 'make wheel   a wheel and a source distribution, in dist/'
	@echo 'make lines   how many lines each room of the source has'
	@echo 'make lock    choose new versions of everything: writes constraints.txt (wants Python 3.11)'
	@echo 'make clean   remove the environment and all caches; results stay'
	@echo
	@echo 'Each installs what it needs into $(VENV) the first time. With another Python: make clean, then make demo PYTHON=python3.12'

demo: $(VENV)/installed-core
	@$(VENV)/bin/metareplay demo $(ARGS)

test: $(VENV)/installed-test
	@$(RUN) pytest -m "" -n auto --dist worksteal $(ARGS)

check: $(VENV)/installed-dev
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy

format: $(VENV)/installed-dev
	@$(RUN) ruff check --fix-only --quiet
	@$(RUN) ruff format

# So many damaged inputs for every reader: make fuzz N=100000
fuzz: $(VENV)/installed-test
	@FUZZ=$(or $(N),10000) $(RUN) pytest -n auto --timeout=0 tests/fuzz $(ARGS)

bench: $(VENV)/installed-test
	@$(RUN) benchmarks $(ARGS)

# Notebooks are run and rendered first; pages fetch nothing, and a broken link fails.
docs: $(VENV)/python
	@$(PIP) -e '.[docs]'
	@set -e; cd docs/notebooks; for notebook in *.py; do \
	    ../../$(RUN) jupytext --quiet --to ipynb --output - $$notebook \
	        | ../../$(RUN) jupyter nbconvert --log-level=ERROR --execute --to markdown --stdin --output $${notebook%.py}; \
	done
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet
	@echo 'open site/index.html'

# Of what lies here, into dist/.
wheel: $(VENV)/python
	@rm -rf dist
	@$(PIP) 'hatchling>=1.27,<2'
	@$(VENV)/bin/hatchling build

lines: $(VENV)/installed-test
	@$(VENV)/bin/python tests/test_architecture.py

# What is installed for one purpose serves those before it too; two pips must not work in one environment at once.
.NOTPARALLEL:

$(VENV)/python:
	@set -e; \
	if ! $(VENV)/bin/python -c '$(SUITABLE)' 2>/dev/null; then \
	    for python in $(CANDIDATES) ''; do \
	        if test -z "$$python" || "$$python" -c '$(SUITABLE)' >/dev/null 2>&1; then break; fi; \
	    done; \
	    if test -z "$$python"; then \
	        echo "metareplay needs Python 3.11 to 3.14 with its venv module (Debian: the package python3-venv); none of these is one: $(CANDIDATES). Install it, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	        exit 1; \
	    fi; \
	    echo "Making an environment in $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv --clear $(VENV); \
	fi
	@touch $@

$(VENV)/installed-core: $(VENV)/python pyproject.toml constraints.txt
	@echo 'Installing metareplay and what it stands on (165 MB to download, the first time)'
	@$(PIP) -e '.[report]'
	@touch $@

$(VENV)/installed-test: $(VENV)/python pyproject.toml constraints.txt
	@echo 'Installing metareplay and what the tests need; PyTorch is the large one (200 MB for CPUs, far more with CUDA)'
	@$(PIP) -e '.[test]'
	@touch $(VENV)/installed-core $@

$(VENV)/installed-dev: $(VENV)/python pyproject.toml constraints.txt
	@echo 'Installing metareplay, what the tests need (PyTorch: 200 MB for CPUs, far more with CUDA), linter and type checker'
	@$(PIP) -e '.[dev]'
	@touch $(VENV)/installed-core $(VENV)/installed-test $@

# The oldest Python chooses, so that every later one can install what was chosen.
lock: CANDIDATES = $(or $(PYTHON),python3.11)
lock:
	@set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	echo 'Choosing versions: everything is installed afresh, which takes some minutes'; \
	$(CANDIDATES) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "make lock wants Python 3.11: PYTHON=/path/to/python3.11")'; \
	$(CANDIDATES) -m venv "$$scratch/venv"; \
	"$$scratch/venv/bin/python" -m pip install -qq '$(TORCH)' -e '.[dev,docs,wandb,mlflow]'; \
	{ echo '# The versions that are tested together, for Python 3.11 and later. Made by `make lock`; do not edit.'; \
	  echo '# Use it with pip alone: pip install -c constraints.txt -e ".[dev]"'; \
	  "$$scratch/venv/bin/python" -m pip freeze --all --exclude pip --exclude-editable \
	      | sed 's/+cpu$$//' | grep -v -E '^(nvidia|cuda|triton)'; \
	} > "$$scratch/constraints.txt"; \
	cp "$$scratch/constraints.txt" constraints.txt; \
	echo "constraints.txt: $$(grep -c == constraints.txt) packages"

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
