.PHONY: run test lint format clean
PYTHON := .venv/bin/python

run: ; @bin/bootstrap && exec $(PYTHON) -m local demo $(ARGS)
test: ; @bin/bootstrap && $(PYTHON) -m ruff check && $(PYTHON) -m ruff format --check && $(PYTHON) -m mypy && $(PYTHON) -m pytest -n 3 --dist loadfile $(ARGS)
lint: ; @bin/bootstrap && $(PYTHON) -m ruff check && $(PYTHON) -m ruff format --check && $(PYTHON) -m mypy
format: ; @bin/bootstrap && $(PYTHON) -m ruff check --fix && $(PYTHON) -m ruff format
clean: ; rm -rf .venv .local
