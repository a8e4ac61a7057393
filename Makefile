# Everything that a person does with this repository. `make` alone lists it.
PYTHON ?= python3
PORT ?= 8000
VAR ?= var
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test check check-all bench image lock format clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST) | \
		if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi

run: ## start Kernex here with a device and a real model on it (PORT=8000 VAR=var)
	@$(PYTHON) dev/bootstrap.py .venv dev/requirements.txt
	@exec $(BIN)/python -m dev.run --port "$(PORT)" --var "$(VAR)"

test: .venv ## run the tests
	@$(BIN)/python -m pytest -n 2 -m "not long"

check: .venv ## all that must hold before a change lands: style, types, walls, tests
	@$(BIN)/python -m dev.check

check-all: .venv ## the same with the tests that take minutes
	@$(BIN)/python -m dev.check --long

bench: .venv ## measure the heartbeat beside a bare Django view
	@$(BIN)/python -m tests.performance.bench_heartbeat

image: .venv ## build the container images without a Docker engine (needs root, buildah, debootstrap)
	@$(BIN)/python -m dev.image --var "$(VAR)"

lock: .venv ## compile the pinned requirements from the *.in files
	@$(BIN)/python -m dev.lock

format: .venv ## let ruff format and fix what it can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean: ## remove environments, caches and var/
	rm -rf .venv .venv-device var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist

.PHONY: .venv
.venv:
	@$(PYTHON) dev/bootstrap.py .venv dev/requirements.txt
