# make demo    set up and run the whole loop on the built-in model (minutes, CPU)
# make test    set up, lint, type check, fast tests        make test-all  the slow tests too
# make setup   only the environment (.venv)                make bench     measure and write benchmarks/results
# make fmt     format the code                             make docs      rebuild docs/cli.md, check links

PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.uphold-setup

# one thread each: on a small machine oversubscribed threads cost more than they bring
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: setup demo test test-all lint fmt bench docs

setup: $(STAMP)

$(STAMP): pyproject.toml scripts/install_torch.py
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) scripts/install_torch.py
	$(PY) -m pip install --quiet --editable '.[all,dev]'
	@touch $(STAMP)

demo: setup
	.venv/bin/uphold run examples/storefront

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

test: lint
	$(TEST_ENV) $(PY) -m pytest -q -m 'not slow'

test-all: lint
	$(TEST_ENV) $(PY) -m pytest -q

fmt: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: setup
	for script in benchmarks/*.py; do $(PY) $$script || exit 1; done

docs: setup
	$(PY) scripts/make_docs.py
