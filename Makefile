# make demo   sets up .venv and trains the embedded default into runs/demo (again: resumes, or shows what came out)
# make test   the same set-up with the test tools, then the suite without its slow tests (TEST_FLAGS='-n 2 -m "slow or not slow"')
# make tune   the set-up with KerasTuner, then a label-free search of 12 trials on the embedded default into runs/tune
# make faults kills at random moments and compares what is left, bit for bit; kills chiefs and workers of a search (slow)
# make bench  the set-up with PyTorch, then speed in at most ten minutes: ratios against the bare work, other settings and
#             a peer; writes benchmarks/README.md
# make bundle makes the demo's run the one that the app opens where there is no other
# make lint   ruff
PYTHON ?= python3
VENV ?= .venv
DEMO_OUT ?= runs/demo
DEMO_FLAGS ?=
TUNE_OUT ?= runs/tune
TUNE_FLAGS ?=
BENCH_FLAGS ?=
TEST_FLAGS ?= -n 2
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo bundle bench test tune faults lint clean
.DEFAULT_GOAL := demo

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
	  "Expected Python 3.11 to 3.13; received %d.%d. Name another: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.tests: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,app,tuning,hub]'
	@touch $@

$(VENV)/.tuning: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[tuning]'
	@touch $@

# Without PyTorch the benchmarks skip its side and say so.
$(VENV)/.bench: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]' && touch $@ || \
	  echo "PyTorch could not be installed: the benchmarks go on without it."

demo: $(VENV)/.core
	$(BIN)/python -m isra_keras.train --dataset glyphs --out $(DEMO_OUT) --resume $(DEMO_FLAGS)

bundle: demo
	$(BIN)/python -m app.bundle $(DEMO_OUT)

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/bench.py $(BENCH_FLAGS)

test: $(VENV)/.tests
	$(BIN)/python -m pytest $(TEST_FLAGS)

tune: $(VENV)/.tuning
	$(BIN)/python -m tuning.search --out $(TUNE_OUT) --max-trials 12 --iterations 160 --eval-interval 80 \
	  --compare-objectives $(TUNE_FLAGS)

faults: $(VENV)/.tests
	$(BIN)/python -m pytest $(TEST_FLAGS) -m "slow or not slow" --durations=0 --durations-min=1 tests/faults tests/tuning

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --diff . || true

clean:
	rm -rf $(VENV) build *.egg-info
