# Every target does its own set-up in .venv: `make demo` is all that a new clone needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help install demo test slow torture bench docs lint format clean
help:
	@echo "make install set up .venv"
	@echo "make demo    train a decay-mean classifier on handwritten digits (about half a minute)"
	@echo "make test    run the tests"
	@echo "make slow    run the slow tests: sweeps, killed and resumed; pages in a browser"
	@echo "make torture kill runs at more than 100 points, try laws on 200 examples (40 minutes)"
	@echo "make bench   measure speed beside PyTorch and faiss"
	@echo "make docs    build the documentation in site/"
	@echo "make lint    check style"
	@echo "make format  mend style"
	@echo "make clean   delete .venv"

install: $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/python -m deepncm_tf.cifar_main --ncm=decay --dataset=digits

test: $(VENV)/installed
	$(BIN)/python -m pytest

slow: $(VENV)/installed  # some wait for programs that they start: three at once
	$(BIN)/python -m pytest -m "slow and not thorough" --numprocesses=3 --dist=worksteal

torture: $(VENV)/installed
	$(BIN)/python -m pytest -m thorough
	$(BIN)/python tests/support/torture.py

bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[test,bench]'
	$(BIN)/python -m benchmarks --write

docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[test,docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; give one as: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[test]'
	touch $@
