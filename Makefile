# Everything starts from nothing: each target makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
# One stamp an extra: installed again when the metadata or the pins change.
STAMP = .venv/.installed

.PHONY: demo test lint docs bench clean

$(STAMP)-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$*]"
	touch $@

demo: $(STAMP)-plot
	$(BIN)/python examples/demo.py

lint: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest --cov --cov-report=term --cov-fail-under=95

docs: $(STAMP)-docs
	rm -rf docs/generated
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: $(STAMP)-test
	for script in examples/benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv .coverage* docs/_build docs/generated docs/auto_examples
