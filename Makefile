# `make` prints this help. Every target but help, clean and setup first brings .venv up to date.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup book test quick portable browser notebooks bench audit pdf serve clean

PYTHON ?= python3
JOBS ?= 2
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-complete
HTML := book/_build/html
PDF := book/_build/latex/book.pdf
AUDIT := .venv-audit/bin/pip-audit
PEERS := benchmarks/.venv/.setup-complete
BOOK_BUILD := $(BIN)/jupyter-book build book --all -W -n --keep-going

help:  ## Print this help
	@echo "Usage: make <target>"
	@awk -F ':.*##' '/^[a-z]+:.*##/ {printf "  %-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=python3.12 (for setup)  JOBS=$(JOBS)  PORT=$(PORT)"

setup: $(STAMP)  ## Create .venv with the versions of requirements.lock (Python 3.11 or newer)

# torch first: it is the large one, and a machine's own choice of build is made here.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "convexlib needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name a newer one: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "The venv module is missing. On Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m convexlib warm
	@touch $@

book: $(STAMP)  ## Build the book; warnings are errors
	$(BOOK_BUILD)
	@echo "The book: file://$(CURDIR)/$(HTML)/index.html"

# One thread for each process: two processes with two threads each take half as long again.
test quick browser: export OMP_NUM_THREADS ?= 1
test quick browser: export MKL_NUM_THREADS ?= 1
test quick browser: export OPENBLAS_NUM_THREADS ?= 1
test quick browser: export NUMBA_NUM_THREADS ?= 1

test: $(STAMP)  ## Check style, imports and types; run every test and every notebook
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/python book/tools/notebooks.py --check
	$(BIN)/python -m pytest -q -m "not browser" -n $(JOBS)
	$(BIN)/python book/tools/notebooks.py --test --jobs $(JOBS)

quick: $(STAMP)  ## Check style and run the fast tests only
	$(BIN)/ruff check .
	$(BIN)/python book/tools/notebooks.py --check
	$(BIN)/python -m pytest -q -m "not browser and not slow" -n $(JOBS)

portable: $(STAMP)  ## Run tests and notebooks in other environments (or some: make portable IN="sse newest")
	$(BIN)/python tools/portable.py $(IN) --jobs $(JOBS)

browser: book  ## Build the book and open every page in headless chromium
	CONVEXLIB_REQUIRE_BROWSER=1 $(BIN)/python -m pytest -q -m browser tests/book

notebooks: $(STAMP)  ## Execute the chapters whose notebook is stale (all of them: make notebooks ALL=1)
	$(BIN)/python book/tools/notebooks.py --jobs $(JOBS) $(if $(ALL),--all)

bench: $(STAMP) $(PEERS)  ## Time the solvers against their peers (more: make bench BENCH=--full)
	$(BIN)/python -m benchmarks.run $(BENCH)

# The peers need older versions of what convexlib uses, so they have an environment of their own.
$(PEERS): benchmarks/requirements.txt
	@test -x benchmarks/.venv/bin/python || $(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
	benchmarks/.venv/bin/python -m pip install --quiet -r benchmarks/requirements.txt
	@touch $@

audit: $(AUDIT)  ## Look up the locked versions in PyPI's vulnerability data
	@$(BIN)/python tools/audit.py $(AUDIT)

# An environment of its own: what the audit needs is no part of what is audited.
$(AUDIT): | $(STAMP)
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit==2.10.1

pdf: $(STAMP)  ## Build the book as a PDF (needs latexmk and LaTeX)
	@command -v latexmk >/dev/null || { \
	  echo "The PDF needs LaTeX. On Debian: apt-get install latexmk texlive-latex-recommended \\" >&2; \
	  echo "  texlive-latex-extra texlive-fonts-recommended tex-gyre" >&2; exit 1; }
	rm -f $(PDF)
	$(BOOK_BUILD) --builder pdflatex
	@test -s $(PDF)
	@echo "The PDF: $(CURDIR)/$(PDF)"

serve: book  ## Build the book and serve it on this machine, at PORT
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(HTML)

clean:  ## Remove the built book and caches; keeps .venv
	rm -rf book/_build build dist .coverage .hypothesis .import_linter_cache
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)*/*' -prune -exec rm -rf {} +
