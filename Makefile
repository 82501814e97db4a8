# Each target first installs what it needs: .venv, and system packages for a virtual screen if
# windows are opened. If everything is installed this takes no time.
SHELL = /bin/sh
.DEFAULT_GOAL = help

PY = .venv/bin/python
OUT = demo-output
# Three processes for two cores, since tests of windows mostly wait. Each has one thread and a screen,
# and may write bytecode for the many processes that tests start.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 scripts/with-screen.sh $(PY) -m pytest -n 3

.PHONY: help demo test test-slow bench docs pictures screenshots lint env env-bench window constraints clean

help: ## this list
	@echo "Usage: make TARGET [ARGS=...]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

demo: env ## run the demo; OUT=folder, DATA=folder of own scans, FAST=1 for a quick look
	.venv/bin/napari-sslseg demo --out "$(OUT)" $(if $(DATA),--data "$(DATA)") $(if $(FAST),--fast) $(ARGS)

test: env window ## run the tests, with real napari windows on a virtual screen
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: env window ## run the tests that take longer
	$(PYTEST) -m slow $(ARGS)

bench: env-bench window ## measure speed, memory and label efficiency
	@for file in benchmarks/*.py; do echo "== $$file"; scripts/with-screen.sh $(PY) $$file $(ARGS) || exit 1; done

docs: env ## write the pages that are made from the code
	$(PY) scripts/command_line_docs.py

pictures: env ## draw the pictures of the pretext tasks; ARGS="mae spark" draws some
	$(PY) scripts/preview_pictures.py $(ARGS)

screenshots: env window ## draw the pictures of the window, on a virtual screen
	scripts/with-screen.sh $(PY) scripts/screenshots.py $(ARGS)

lint: env ## check style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

env: ## make .venv with everything for development
	@scripts/setup.sh env dev

env-bench: env
	@scripts/setup.sh env dev,bench

window: env
	@scripts/setup.sh window

constraints: env ## pin the newest versions in constraints.txt (torch stays at its pin)
	$(PY) scripts/constraints.py

clean: ## remove .venv and everything that a run or a test leaves behind
	rm -rf .venv "$(OUT)" build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
