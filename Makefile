# `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: help install demo demo-personagpt demo-lamp test test-long gpu lint docs results bench doctor clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

install: $(STAMP) ## create .venv and install the pinned requirements

$(STAMP): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed") if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(STAMP)

demo: $(STAMP) ## train, decode, score and chat on the embedded sample (about 4 minutes on 2 cores)
	$(BIN)/python -m trainer.demo

demo-personagpt: $(STAMP) ## the same for PersonaGPT, with a conversation in both of its modes (about 2 minutes)
	$(BIN)/python -m companions.personagpt.demo

demo-lamp: $(STAMP) ## LaMP, ROPG and RSPG on a sample of their own, to one table of all systems (about a minute)
	$(BIN)/python -m companions.lamp.pipeline --config config/lamp/sample.yml

doctor: $(STAMP) ## check this installation; ARGS="--config=FILE .." a configuration, its data, memory and time too
	$(BIN)/python -m utils.doctor $(ARGS)

test: $(STAMP) ## run all tests, offline
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test-long: export TESTS = long
test-long: test ## the same, with the tests that try much of the same, such as many kills

gpu: $(STAMP) ## the tests that need a CUDA device, and the benchmark on it (at most ten minutes); none: says so
	$(BIN)/python -m tests.gpu_check $(ARGS)

lint: $(STAMP) ## linter, format check and type check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

results: $(STAMP) ## compare methods on real data, to the tables of docs/results.md (hours; goes on where it stopped)
	$(BIN)/python -m trainer.results $(ARGS)

docs: $(STAMP) ## write the pages of keys and flags from the code
	$(BIN)/python -m models.describe
	$(BIN)/python -m companions.personagpt.describe

bench: $(STAMP) ## speed and memory of training and decoding, a baseline beside this project's; how the cost grows
	$(BIN)/python -m tests.benchmark $(ARGS)
	$(BIN)/python -m tests.benchmark.scaling

clean: ## remove .venv and caches; run folders stay
	rm -rf $(VENV) .pytest_cache .hypothesis .ruff_cache .mypy_cache
