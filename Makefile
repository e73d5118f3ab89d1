# Everything here works from a fresh clone: the first call sets up .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo demo-decoder test test-fast test-trust test-real test-caps test-provider test-kill fuzz fuzz-guided test-server test-zoo house reference lint types imports check study bench bench-load docs notebooks server clean test-wheel release audit lock test-locked test-gpu test-lowest test-312 test-313 test-ray test-parallel test-browser

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-packaged.txt
	touch $(READY)

demo: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/maao demo

# A language model's soft prompt, with that model as its mentor: some minutes
demo-decoder: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/maao demo --decoder

# All tests that need no model server; the fast ones alone: make test-fast
test: test-fast test-trust test-real

test-fast: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 --dist loadfile -m "not real and not server and not zoo and not browser and not trust"

# Short forms of test-kill and fuzz, and what is searched for keys and hostile words
test-trust: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 --dist loadfile -m trust

test-real: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m real

# Reports in a real Chromium (Debian: apt-get install chromium); without one it fails
test-browser: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m browser tests/report tests/pages

# Processes that spend from one cap, killed at random: 200 trials; its last output is in docs/checked/caps.txt
test-caps: $(READY)
	$(BIN)/python -m tests.checks.trust caps

# A hostile provider: faults handled / tried; its last output is in docs/checked/provider.txt
test-provider: $(READY)
	$(BIN)/python -m tests.checks.trust provider

# 20,000 hostile inputs for each of what reads what others wrote; writes docs/checked/fuzz.txt. 15 minutes of a core
fuzz: $(READY)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --record

# The same for one of them, led by coverage, until an input escapes: make fuzz-guided TARGET=replies
.venv/.fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[fuzz]"
	touch .venv/.fuzz

TARGET ?= replies
fuzz-guided: .venv/.fuzz
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.guided $(TARGET) -len_control=0 -max_len=4096

# Runs of every kind, comparisons and imports of replies, killed at random moments: 200 kills, half an hour. The last output: docs/checked/
test-kill: $(READY)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.kill 200

# Every language model class of the installed transformers, tiny and random: half an hour on two cores; goes on where it was stopped.
# Writes docs/models.md.
test-zoo: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.zoo

# A real OpenAI-compatible server (llama.cpp's; compiled on first use, some minutes). Compiled for any machine, and not taken from a cache:
# what is made for the processor at hand crashes on some that have AMX.
.venv/.server: $(READY)
	CMAKE_ARGS="-DGGML_NATIVE=OFF" $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-cache-dir --no-deps llama-cpp-python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[server]"
	touch .venv/.server

server: .venv/.server
	$(BIN)/python -m llama_cpp.server --model "$$($(BIN)/maao where packaged:smollm2-135m-instruct)" \
		--model_alias smollm2 --n_ctx 2048 --port 8000

test-server: .venv/.server
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m server tests/integration

# Checks in environments of their own (minutes each, and a network or a folder of packages): the last output of each is in docs/checked/.
# The wheel, installed far from the sources
test-wheel: $(READY)
	$(BIN)/python -m tests.checks.wheel

# The wheel into dist/, built twice with the same bytes, with its bill of materials (CycloneDX)
release: $(READY)
	$(BIN)/python -m tests.checks.release dist

# Known vulnerabilities of what is locked; where their data cannot be reached it says so
audit: $(READY)
	$(BIN)/python -m tests.checks.audit

# What is locked, anew: all that runs and all that develops maao needs, at the pins of constraints.txt, with hashes
LOCK := $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--constraint constraints.txt pyproject.toml
lock: $(READY)
	$(LOCK) --extra all --output-file locked/all.txt
	$(LOCK) --extra dev --output-file locked/dev.txt

# The locked development environment, installed anew by its hashes
test-locked: $(READY)
	$(BIN)/python -m tests.checks.locked

# On a GPU, at most 5 minutes: parity with the processor, resume, memory, bf16, step times. Without one it says that it was not run
test-gpu: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.checks.gpu

# The least versions that pyproject.toml admits
test-lowest: $(READY)
	$(BIN)/python -m tests.checks.versions lowest

# Other Pythons: PYTHON312=/path/to/python3.12 where it is not on the path
PYTHON312 ?= python3.12
test-312: $(READY)
	$(BIN)/python -m tests.checks.versions python-3.12 $(PYTHON312)

PYTHON313 ?= python3.13
test-313: $(READY)
	$(BIN)/python -m tests.checks.versions python-3.13 $(PYTHON313)

# A comparison on a Ray cluster of two nodes on this machine
.venv/.ray: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[ray]"
	touch .venv/.ray

test-ray: .venv/.ray
	$(BIN)/python -m tests.checks.ray_cluster

# Two processes that share gradient steps, against one
test-parallel: $(READY)
	$(BIN)/python -m tests.checks.parallel

# What is counted of the source: import cycles, names asked for, Any, branches by kind of input, sizes
house: $(READY)
	$(BIN)/python -m tests.house

# 101 small runs of everything, as hashes: OUT of two versions of the source, on one machine, are to be equal
OUT ?= reference.json
reference: $(READY)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.reference $(OUT)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

check: lint types imports test

# The second study from the replies on record, without a call: its cells (some hours of a core; it goes on where it stopped), table, plots, page
study: $(READY)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m experiments.study2
	$(BIN)/python -m experiments.study2.read_out

# The site of docs/ into site/, without a network; a warning ends it (with --quiet it would not)
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Runs the notebooks anew and keeps what they print
notebooks: $(READY)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.pages.notebooks

bench: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m bench

# What a cell, a row, a round, a call and a class cost as there are more of them: some hours of a core (CASES=load-calls: one case)
CASES ?= load
bench-load: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python -m bench $(CASES)

clean:
	rm -rf .venv build dist site src/*.egg-info
