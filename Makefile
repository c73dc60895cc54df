# What people and CI call. `make` alone lists the targets.

# The first Python that the locks hold for; name another with PYTHON=/path/to/python.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
CHECKED := guitarfish training serving registry cluster runspec

.PHONY: help setup demo test check unit lint format types imports serve lock reference clean
.DEFAULT_GOAL := help

help:
	@echo "make setup      install everything into .venv (a second call does nothing)"
	@echo "make demo       data -> tuned adapter -> answers over HTTP, on this machine"
	@echo "make test       all checks and all tests"
	@echo "make check      lint, format, types, import rules, unit tests: under two minutes"
	@echo "make serve      serve what the demo published"
	@echo "make reference  write docs/reference.md from the run file's models"
	@echo "make lock       compile both locks again from pyproject.toml"

setup:
	@test -n "$(PYTHON)" || { echo "set-up stopped: no Python 3.11, 3.12 or 3.13 on the PATH."; \
		echo "  fix: install one, or name it: make setup PYTHON=/path/to/python3.12"; exit 2; } >&2
	@"$(PYTHON)" scripts/setup.py

demo: setup
	$(BIN)/python examples/smart-home/prepare.py
	$(BIN)/guitarfish train examples/smart-home/run.yaml
	$(BIN)/python examples/smart-home/demo.py

serve: setup
	$(BIN)/guitarfish serve examples/smart-home/run.yaml

test: check
	$(BIN)/pytest tests

check: setup lint format types imports unit

lint:
	$(BIN)/ruff check .

format:
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy $(CHECKED)

imports:
	$(BIN)/lint-imports --config pyproject.toml

unit:
	$(BIN)/pytest tests/unit -q

reference: setup
	$(BIN)/python -m runspec.reference > docs/reference.md

# --no-header keeps the command out of the files, and with it the registry that was asked.
COMPILE := uv pip compile --universal --python-version 3.11 --no-annotate --no-header --generate-hashes \
	--override locks/overrides.txt --extra demo --extra dev --quiet

lock:
	$(COMPILE) pyproject.toml locks/torch-requires.txt --extra cpu --override locks/overrides-cpu.txt -o locks/cpu.txt
	$(COMPILE) pyproject.toml --extra gpu -o locks/gpu.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
