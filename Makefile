# Two commands for a newcomer: `make demo` and `make test`. Both make .venv and install what they need.
PYTHON ?= python3
BIN := .venv/bin
DEMO := --methods lbd,mbs --protocol voc_10-1 --track demo
# The committed results: made from STORE, where what is already trained is not trained again.
RESULTS := results/demo
RESULTS_RUNS := --methods finetune,lwf,ilt,mib,plop,mbs,lbd,joint --protocol voc_10-1 --track demo --seeds 0,1,2 threads=1
STORE ?= runs

.PHONY: demo results-demo test test-faults lint bench clean

demo: .venv/installed
	$(BIN)/bench run $(DEMO)

results-demo: .venv/installed
	$(BIN)/bench run $(RESULTS_RUNS) store=$(STORE)
	rm -rf $(RESULTS)
	$(BIN)/bench report --store $(STORE) --protocol voc_10-1 --format md,csv,latex,png,pdf,html --out $(RESULTS)

test: .venv/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-faults: .venv/installed-test
	$(BIN)/python -m pytest tests/faults --timeout=1200

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: .venv/installed-test
	$(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-autosave

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .benchmarks .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ciss-bench needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/installed-test: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ .venv/installed
