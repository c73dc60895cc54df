# What people and CI call. `make` alone lists the targets.

# The Python that .venv is made with: PYTHON=/path/to/python, else the one it was made with before, else the first of
# these that the locks hold for.
PYTHON ?=
PYTHONS := python3.11 python3.12 python3.13 python3 python
BIN := .venv/bin
# Two processes, and one thread each for torch: threads that wait for a core spin, and slow down the other process.
TESTS := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n 2
CHECKED := guitarfish tuning training serving registry cluster runspec benchmarks

# Changes to the demo's run file: make demo DEMO_FLAGS="--set training.max_steps=80"
DEMO_FLAGS ?=

.PHONY: help setup demo test soak check unit lint format types imports serve lock reference clean
.DEFAULT_GOAL := help

help:
	@echo "make setup      install everything into .venv (a second call does nothing)"
	@echo "make demo       data -> tuned adapter -> answers over HTTP, on this machine"
	@echo "make test       all checks and tests but the long ones: under eight minutes"
	@echo "make soak       the long tests: random kills, long races, load, the whole demo"
	@echo "make check      lint, format, types, import rules, unit tests: under two minutes"
	@echo "make serve      serve what the demo published"
	@echo "make reference  write docs/reference.md from the run file's models"
	@echo "make lock       compile both locks again from pyproject.toml"

setup:
	@if [ -z "$(PYTHON)" ] && .venv/bin/python -S scripts/setup.py --current 2>/dev/null; then exit 0; fi; \
	found="$(PYTHON)"; \
	before=$$(.venv/bin/python -c 'import sys; print(sys._base_executable)' 2>/dev/null); \
	for each in $$before $(PYTHONS); do \
		[ -z "$$found" ] || break; \
		$$each -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && found=$$each; \
	done; \
	[ -n "$$found" ] || { echo "set-up stopped: no Python 3.11, 3.12 or 3.13 on the PATH."; \
		echo "  fix: install one, or name it: make setup PYTHON=/path/to/python3.12"; exit 2; } >&2; \
	"$$found" scripts/setup.py

demo: setup
	$(BIN)/python examples/smart-home/prepare.py
	$(BIN)/guitarfish train examples/smart-home/run.yaml $(DEMO_FLAGS)
	$(BIN)/python examples/smart-home/demo.py $(DEMO_FLAGS)

serve: setup
	$(BIN)/guitarfish serve examples/smart-home/run.yaml

test: setup lint format types imports
	$(TESTS) tests -m "not soak" --durations=25

soak: setup
	$(TESTS) tests -m soak --durations=0

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
	$(TESTS) tests/unit -m "not soak" -q

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
