# Each target makes the environment it needs, then does its job. Nothing but Python 3.11+, make and git is assumed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.made
TOOLS  := $(VENV)/.tools
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: demo test test-mock test-fallback test-live lab bench soak native docs lint picture clean

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "dspex needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(MAKE) --no-print-directory venv-module
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lab]'
	@touch $@

# What only tests, figures and pictures need, torch among it, stays out of the way of the demo.
$(TOOLS): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group test
	@touch $@

# Debian ships Python without the part that makes environments.
.PHONY: venv-module
venv-module:
	@command -v apt-get >/dev/null || { echo "this Python lacks ensurepip: install its venv package"; exit 1; }
	$(SUDO) apt-get update -q
	DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -qy --no-install-recommends python3-venv

demo: $(STAMP)
	$(BIN)/dspex demo --out build/demo

# Three layers: without a process or a socket; over real ones, browser included; and with real providers.
test: lint test-mock test-fallback
	$(BIN)/python -m pytest --nbmake notebooks

test-mock: $(TOOLS)
	DSPEX_TEST_MODE=mock $(BIN)/python -m pytest tests

test-fallback: $(TOOLS)
	DSPEX_TEST_MODE=fallback $(BIN)/python -m pytest

test-live: $(TOOLS)
	DSPEX_TEST_MODE=live $(BIN)/python -m pytest tests/live

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lab: $(STAMP)
	$(BIN)/jupyter lab notebooks

bench: $(TOOLS)
	$(BIN)/dspex bench

# Half an hour unless told otherwise: make soak DSPEX_SOAK_S=60
soak: DSPEX_SOAK_S ?= 1800
soak: $(TOOLS)
	$(BIN)/dspex bench soak --seconds $(DSPEX_SOAK_S)

# The optional module in C, beside its source; DSPEX_PURE=1 leaves it aside, `make clean` removes it.
native: $(TOOLS)
	$(BIN)/python hatch_build.py

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	$(BIN)/sphinx-build -W -b html docs build/docs

picture: $(TOOLS)
	$(BIN)/python docs/picture.py

clean:
	rm -rf $(VENV) build dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	rm -f dspex/bridge/compiled/*.so dspex/bridge/compiled/*.pyd
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
