# Every target makes what it needs: system headers, a virtual environment, torch, fastfeed itself.
# `make help` lists them. Nothing outside this folder is written, except packages of the system when you are root.

PYTHON ?= python3
VENV ?= .venv
# Installed before anything else; the rest may not move it. For a CPU-only torch elsewhere see README.md.
TORCH_PIP ?= torch==2.13.0
DEMO_DIR ?= demo-data
# More for csrc/fuzz/long_run.py
FUZZ_ARGS ?=
# More for benchmarks/scenario_peers.py
BENCH_ARGS ?=
# More for pytest, e.g. make test PYTEST_ARGS="tests/unit -k schema"
PYTEST_ARGS ?=

BIN := $(VENV)/bin
SETUP := VENV="$(VENV)" PYTHON="$(PYTHON)" TORCH_PIP="$(TORCH_PIP)" .ci/setup.sh
NATIVE_SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.hpp') $(wildcard fastfeed/_native/*.p[yx]*)
# Subprocesses of tests find the tools and the `fastfeed` command of this environment.
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build demo test check wheel fuzz bench bench-peers debug clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 13
	@echo
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) TORCH_PIP=$(TORCH_PIP) DEMO_DIR=$(DEMO_DIR)"

$(VENV)/.tools: pyproject.toml .ci/setup.sh
	@$(SETUP) tools

$(VENV)/.built: $(VENV)/.tools setup.py $(NATIVE_SOURCES)
	@$(SETUP) build

$(VENV)/.cross: .ci/setup.sh | $(VENV)/.tools
	@$(SETUP) cross

$(VENV)/.browser: .ci/setup.sh | $(VENV)/.tools
	@$(SETUP) browser

$(VENV)/.node: .ci/setup.sh | $(VENV)/.tools
	@$(SETUP) node && touch $@

build: $(VENV)/.built ## the environment, with fastfeed built in place

demo: $(VENV)/.built ## photographs -> shards -> an HTTP origin -> the cache -> a small network, trained
	@$(BIN)/python examples/demo/run.py --dir "$(DEMO_DIR)"

test: $(VENV)/.built $(VENV)/.cross $(VENV)/.node $(VENV)/.browser ## all tests, with the coverage of fastfeed/
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report $(if $(PYTEST_ARGS),--fail-under=0)

check: $(VENV)/.built ## style, types, architecture, sanitizers with the fuzz corpus, the blocks of the docs
	@echo "ruff"; $(BIN)/ruff check .
	@echo "mypy"; $(BIN)/mypy
	@echo "cython-lint"; $(BIN)/cython-lint fastfeed/_native
	@echo "architecture and docs"; $(BIN)/python -m pytest -q tests/test_architecture.py tests/integration/test_docs_blocks.py
	@echo "native tests under ASan and UBSan"; $(BIN)/python csrc/tests/run.py --sanitize
	@echo "the cache's threads under TSan"; $(BIN)/python csrc/tests/run.py --threads

wheel: $(VENV)/.built ## a portable wheel in dist/, proven in an environment without compiler and headers
	@$(BIN)/python .ci/wheel.py

fuzz: $(VENV)/.tools ## ten million hostile inputs under ASan and UBSan (about 15 minutes; FUZZ_ARGS="--coverage-guided" with clang)
	@$(BIN)/python csrc/fuzz/long_run.py $(FUZZ_ARGS)

bench: $(VENV)/.built ## all benchmarks, timed (minutes; on a quiet machine)
	@$(BIN)/python -m pytest benchmarks -q --benchmark-enable --benchmark-sort=name
	@$(BIN)/python benchmarks/bench_import.py
	@$(BIN)/python benchmarks/bench_text_size.py
	@$(BIN)/python benchmarks/scenario_images.py
	@$(BIN)/python benchmarks/scenario_convert.py --peers webdataset

bench-peers: $(VENV)/.built ## fastfeed beside every peer and the limits: docs/benchmarks.md (two hours; BENCH_ARGS="--rounds 3")
	@$(BIN)/python benchmarks/scenario_peers.py --setup --fresh --page docs/benchmarks.md $(BENCH_ARGS)

debug: $(VENV)/.tools ## build with assertions, and run the tests of the native parts on it
	@FASTFEED_DEBUG=1 $(SETUP) build
	@$(BIN)/python -m pytest -q tests/unit tests/property; status=$$?; rm -f $(VENV)/.built; exit $$status

clean: ## remove what was built here, and the environment; the demo's data stay
	rm -rf build dist *.egg-info .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	rm -f fastfeed/_native/*.so fastfeed/_native/*.cpp
	rm -rf "$(VENV)"
