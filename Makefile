.PHONY: help setup test test-slow test-browser test-cluster lint bench clean
PY := .venv/bin/python

help:         ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup:        ## Make .venv with the pinned requirements (again only when they changed)
	@scripts/setup.sh

test: setup   ## Run the tests, all but the slow ones (under 8 minutes on two cores)
	@$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: setup  ## Run the slow tests: the whole demo, and a run killed 20 times
	@$(PY) -m pytest -m slow -s

test-browser: setup  ## Look at the report in a real browser (fetches Chromium if there is none)
	@scripts/browser.sh && $(PY) -m pytest -m browser

test-cluster: setup  ## Run jobs on Ray nodes of this machine, and kill some
	@scripts/ray.sh && $(PY) -m pytest -m cluster

lint: setup   ## Check style (ruff) and types (mypy)
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

bench: setup  ## Run every benchmark against its plain reference (after ./run_all.sh, on its data)
	@for script in benchmarks/[a-z]*.py; do case $$script in *harness.py) ;; *) $(PY) $$script || exit 1;; esac; done

clean:        ## Delete the demo (data, run, submission) and the tools' caches
	@rm -rf data/demo runs/demo submissions/demo kernels/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis folds/demo.csv
