# The README's commands. Everything lives in .venv; `make clean` removes it, to start over.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# PyTorch without CUDA, a tenth of the download. `make test TORCH_INDEX=` takes what pip finds by itself.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: run test check bench clean

# The server on ONNX Runtime, without PyTorch. ARGS="--port 9000" reaches `psistream serve`.
run: $(VENV)/.serve
	@$(BIN)/psistream serve $(ARGS)

# A process per core and two more, six at most; each takes whole files, the longest first (tests/conftest.py).
# `make test ARGS="-n0 -k prompt"` runs in one. Hundreds of processes are started, so Python may store what it
# compiled even where the environment says no.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n auto --dist loadfile \
	  --no-loadscope-reorder -m "not gpu and not slow" $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.serve
	@$(BIN)/psistream bench latency $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "psistream needs Python 3.11 or newer, and '$(PYTHON)' is not one." >&2; \
	  echo "Install it, or name it: make run PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the server into $(VENV), once ..."
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the server, PyTorch and the tools into $(VENV), once ..."
	@extra=$$($(BIN)/python -m pip config get global.extra-index-url 2>/dev/null || true); \
	  PIP_EXTRA_INDEX_URL="$$extra $(TORCH_INDEX)" $(PIP) --retries 1 --no-deps torch
	@$(PIP) -e ".[dev]"
	@touch $@ $(VENV)/.serve
