# Two commands are enough: make demo, make test. Each installs what is missing, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test docs bench lint types format clean

install: $(STAMP)

# torch is pinned in constraints.txt, and torchvision is not a dependency of anything here
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dicom,bias,skullstrip,dask,export,dev]'
	touch $(STAMP)

demo: install
	$(BIN)/volta3d demo --out demo-out

test: install
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --cov --cov-report=term:skip-covered

docs: install
	$(BIN)/python -c 'import sphinx' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

bench: install
	$(BIN)/python benchmarks/run.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo-out docs/_build docs/reference/generated build dist .pytest_cache .mypy_cache .ruff_cache .coverage* htmlcov
