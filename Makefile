# STACK=2.15 or 2.18 chooses the set of versions and an environment of its own (.stack/install tells more).
STACK ?=
VENV := $(if $(STACK),.venv-$(STACK),.venv)
export STACK VENV
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv quickstart test faults lint format clean

help: ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

venv: ## the virtual environment with pinned packages, Horovod and gdal's binding
	@.stack/install

quickstart: venv ## synthetic archive -> shards -> ResNet50 on two ranks -> scores, predictions, report
	@.stack/quickstart

test: venv ## the tests; make test ARGS="-k records" runs some
	python -m pytest $(ARGS)

faults: venv ## every fault there is a test of, not the subset that make test takes
	JEOPARDA_TF_FAULTS=all python -m pytest -m faults $(ARGS)

lint: venv ## ruff, mypy, import-linter and shellcheck (where it is installed)
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	if command -v shellcheck; then shellcheck -x .stack/install .stack/quickstart .ci/run jobs/submit jobs/*.sh jobs/*.sbatch jobs/*.env* jobs/sites/*.env; fi

format: venv ## let ruff order and wrap the code
	ruff check --fix .
	ruff format .

clean: ## remove environments, caches and the quickstart's results; kept wheels stay
	rm -rf .venv .venv-* .venv*.log quickstart build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
