# What gradflow's users and contributors type. `make` alone lists the targets.

PYTHON ?= python3.13 python3.12 python3.11 python3# the first that is 3.11 to 3.13 is taken
TORCH ?= torch# what pip installs for it, such as "torch --index-url ADDRESS" for a CPU build
SPHINXOPTS ?=# more for `make docs`, such as "-D nb_execution_mode=off", which shows the notebooks without their results
ARGS ?=# settings for `make compare` and `make lecture`, such as "data=csv data.path='my names.csv'"

PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check
override export ARGS := $(value ARGS)# as it was written: neither make nor a shell looks into it

.PHONY: help compare lecture test test-slow test-browser test-notebooks hostile lint docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'make compare ARGS="data=csv data.path=names.csv"   the main job on names of your own'
	@echo 'make compare TORCH="torch --index-url ADDRESS"     with another build of torch (first use only)'
	@echo 'make test PYTHON=python3.12                        with this Python (first use only)'

compare: .venv/ready ## Train the cells with and without clipping, then print a table and draw the figures
	@.venv/bin/python experiments/from_make.py compare

lecture: .venv/ready ## Train what the lecture shows, then draw the whole deck (ARGS="lang=zh" for Chinese)
	@.venv/bin/python experiments/from_make.py lecture

test: .venv/ready ## Run the tests, on all cores
	@.venv/bin/python -m pytest -q -n auto --dist worksteal

test-slow: .venv/ready ## Run the slow tests too
	@.venv/bin/python -m pytest -q -n auto --dist worksteal -m ""

test-browser: .venv/ready ## Run the tests of pages and of SVG in Chromium
	@$(PIP) -e '.[browser]'
	@.venv/bin/python -m pytest -q -m browser tests/test_*browser.py tests/test_svg.py

test-notebooks: .venv/ready ## Run all notebooks
	@.venv/bin/python -m pytest -q -m "" tests/test_notebooks.py

hostile: .venv/ready ## Run all hostile trials (kills, faults, damaged files, wrong settings), and count their verdicts
	@rm -f .hostile.jsonl; GRADFLOW_HOSTILE=$(CURDIR)/.hostile.jsonl \
	  .venv/bin/python -m pytest -q -n auto --dist worksteal -m "" tests/test_*hostile*.py tests/test_runlog_kill.py; \
	status=$$?; .venv/bin/python -m tests.hostile .hostile.jsonl; exit $$status

lint: .venv/lint ## Check style and types
	@.venv/bin/python -m ruff check
	@.venv/bin/python -m ruff format --check gradflow experiments tests benchmarks examples notebooks docs
	@.venv/bin/python -m mypy

docs: .venv/docs ## Build the documentation site: docs/_build/html/index.html
	@.venv/bin/python -m sphinx -q -j auto -W --keep-going -n $(SPHINXOPTS) docs docs/_build/html
	@echo docs/_build/html/index.html

clean: ## Remove the virtual environment and caches; outputs stay
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .hostile.jsonl docs/_build docs/_generated

.venv/ready: pyproject.toml
	@python=$$(for p in $(PYTHON); do \
	  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done); \
	if [ -z "$$python" ]; then \
	  echo "gradflow needs Python 3.11, 3.12 or 3.13; tried: $(PYTHON)" >&2; \
	  echo "Install one, or say where it is: make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$python lacks the module venv; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; fi; \
	echo "Setting up .venv with $$python (once, a minute or more) ..."; \
	$$python -m venv .venv
	@$(PIP) $(TORCH)
	@$(PIP) -e '.[test]'
	@touch $@

.venv/lint: .venv/ready
	@$(PIP) -e '.[lint]'
	@touch $@

.venv/docs: .venv/ready
	@$(PIP) -e '.[docs]'
	@touch $@
