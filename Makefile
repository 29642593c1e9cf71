# Each target works alone on a fresh clone: `.venv` is made first, by bootstrap.py, which also decides whether there is
# anything to do. PYTHON, ARGS and CONFIG are the only variables. Kept to GNU Make 3.81, which is what macOS has.

BIN := .venv/bin

# Each step runs even if the one before it failed.
LINT = s=0; $(BIN)/ruff format --check . || s=1; $(BIN)/ruff check . || s=1; $(BIN)/mypy || s=1

.DEFAULT_GOAL := help
.PHONY: .venv run-server test check lint format clean help

# `make -j clean test` must not clean under the test's feet.
ifneq (,$(filter clean,$(MAKECMDGOALS)))
.NOTPARALLEL:
endif

run-server: .venv  ## serve on 127.0.0.1:8080 with config.yaml (CONFIG=other.yaml takes another)
	@exec $(BIN)/headway serve $(if $(CONFIG),--config '$(CONFIG)')

test: .venv  ## run the whole test suite (ARGS='-k board -x' goes to pytest)
	@$(BIN)/python -m pytest $(ARGS)

check: .venv  ## what CI does: format, lint, types and tests
	@$(LINT); $(BIN)/python -m pytest $(ARGS) || s=1; exit $$s

lint: .venv  ## the same without the tests
	@$(LINT); exit $$s

format: .venv  ## format the code and sort its imports
	@$(BIN)/ruff check --quiet --select I --fix . && $(BIN)/ruff format .

clean:  ## remove .venv, caches and builds
	@rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this list
	@on=; off=; if [ -t 1 ] && [ -z "$$NO_COLOR" ]; then on=`printf '\033[36m'`; off=`printf '\033[0m'`; fi; \
	awk -F ':.*## ' -v on="$$on" -v off="$$off" \
	'/^[a-z-]+:.*## / { printf "  %smake %-11s%s %s\n", on, $$1, off, $$2 }' Makefile
	@echo "  PYTHON=python3.12 before make chooses the Python that .venv is made with."

.venv:
	@$(or $(PYTHON),python3) bootstrap.py $(PYTHON)
