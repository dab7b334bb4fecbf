# Each target may be run at any time, and is quick where nothing is left to do.
.DEFAULT_GOAL := help
.PHONY: help run test crash hosts wheel lint docs bench requirements vendor screenshots clean

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## serve on this machine, with everything that takes: PORT=8000 make run
	@exec scripts/run

test: ## run the tests on SQLite and on PostgreSQL; TESTS=tests/wire or other arguments of pytest: these, on SQLite
	@scripts/test $(TESTS)

crash: ## kill, pause and cut off what works on batches; CYCLES=1000 BACKEND=sqlite, postgres or celery
	@scripts/crash

hosts: ## install the wheel into new projects: Django 5.2 and the newest, servers, databases (it needs a package index)
	@scripts/hosts

wheel: ## build the distribution in dist/
	@scripts/wheel

lint: ## check style, types, migrations and requirements
	@scripts/lint

docs: ## build the site of the documentation in build/docs/html; no network, warnings are errors
	@scripts/install run
	@scripts/install docs
	@.venv/bin/python scripts/docs.py

bench: ## run the benchmarks, beside peers; PART=late runs one
	@scripts/install bench .venv-bench
	@exec .venv-bench/bin/python -m bench $(PART)

requirements: ## compile requirements/*.txt anew from pyproject.toml; OPTIONS=--upgrade takes newer versions
	@scripts/install test
	@.venv/bin/python scripts/requirements.py compile $(OPTIONS)

vendor: ## fetch the browser's libraries anew, as scripts/vendor.py names them (it needs npm)
	@scripts/install test
	@.venv/bin/python scripts/vendor.py

screenshots: ## make the pictures in docs/screenshots anew (it needs Chromium)
	@scripts/install test
	@.venv/bin/python -m tests.browser.screenshots

clean: ## remove what was made, except var/ (the data) and .env
	@rm -rf .venv .venv-bench staticfiles .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -prune -exec rm -rf {} +

ifdef PYTHON
export PYTHON
endif
