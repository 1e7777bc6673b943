# Everything a fresh Debian 12 needs is set up by these targets; nothing has to be installed by hand first.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: venv demo test bench bench-sync lint clean tools

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

venv: $(STAMP)

demo: $(STAMP)
	$(VENV)/bin/onedomain demo

tools: $(STAMP)
	tests/lab/install.sh

test: $(STAMP) tools
	$(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# ARGS="--rows imap,smtp --quick": see bench/README.md.
bench: $(STAMP) tools
	$(VENV)/bin/python -m bench $(ARGS)

bench-sync: $(STAMP) tools
	$(VENV)/bin/python -m bench --sync $(ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check src tests bench
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
