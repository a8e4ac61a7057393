# Targets for working on this repository. `make` lists them.
PYTHON ?= python3
PORT ?= 8000
VAR ?= var
DEVICES ?= 2000
FLEET_VAR ?= $(if $(filter-out var,$(VAR)),$(VAR),var/fleet)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run fleet test check check-all bench image lock format clean

help: ## list these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST) | \
		if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi

run: ## run Kernex on this machine, with a device and a real model (PORT=8000 VAR=var)
	@$(PYTHON) dev/bootstrap.py .venv dev/requirements.txt
	@exec $(BIN)/python -m dev.run --port "$(PORT)" --var "$(VAR)"

fleet: ## run Kernex on this machine with a simulated fleet (DEVICES=2000 PORT=8000 VAR=var/fleet)
	@$(PYTHON) dev/bootstrap.py .venv dev/requirements.txt
	@exec $(BIN)/python -m dev.run --port "$(PORT)" --var "$(FLEET_VAR)" --fleet "$(DEVICES)"

test: .venv ## run the tests
	@$(BIN)/python -m pytest -n 2 -m "not long"

check: .venv ## run all checks that a change must pass: style, types, import contracts, tests
	@$(BIN)/python -m dev.check

check-all: .venv ## run all checks, and the tests that take minutes
	@$(BIN)/python -m dev.check --long

bench: .venv ## run the short benchmarks (tests/performance/bench_*.py)
	@$(BIN)/python -m dev.bench

image: .venv ## build the container images without a Docker engine (needs root, buildah, debootstrap)
	@$(BIN)/python -m dev.image --var "$(VAR)"

lock: .venv ## pin the requirements in the *.in files
	@$(BIN)/python -m dev.lock

format: .venv ## format the code, and fix what ruff can fix
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean: ## remove environments, caches and var/
	rm -rf .venv .venv-device var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist

.PHONY: .venv
.venv:
	@$(PYTHON) dev/bootstrap.py .venv dev/requirements.txt
