# make quickstart   environment, then the main job on bundled posts with the bundled model
# make test         the fast tests          make test-all   all of them
# make lint         ruff, mypy              make clean      forget the environment and the outputs
# make fuzz         10,000 cases per reader make audit      known holes in the dependencies (asks the network)
# make licences     docs/licences.md anew          make mutants  60 changes of the program, of which the tests notice 54
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pip would compile 18,000 modules one after another, which takes longer than to fetch and unpack them: all cores do it
# at once, and nobody compiles the libraries' own tests. A module that is for another Python is no failure.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/tests?/|/testing/_internal/' $(VENV)/lib || true

.PHONY: quickstart test test-all lint format fuzz mutants audit licences clean

$(VENV)/.runtime: requirements.txt
	@echo "Installing requirements.txt into $(VENV) (about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements.txt
	@$(COMPILE)
	@touch $@

$(VENV)/.development: requirements-dev.txt requirements.txt
	@echo "Installing requirements.txt and requirements-dev.txt into $(VENV) (about two minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements.txt -r requirements-dev.txt
	@$(COMPILE)
	@touch $(VENV)/.runtime $@

quickstart: $(VENV)/.runtime
	$(BIN)/accelerate launch --config_file configs/accelerate/cpu.yaml --num_cpu_threads_per_process 2 train_classifier.py --config configs/quickstart.yaml

test: $(VENV)/.development
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu and not network"

test-all: $(VENV)/.development
	$(BIN)/python -m pytest -m "not gpu and not network"

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(VENV)/.development
	$(BIN)/python -m tests.fuzz.run --cases 10000

# Hours on a busy machine; stopped, the same command goes on. make mutants SEED=2 draws other places.
SEED ?= 1
mutants: $(VENV)/.development
	OMP_NUM_THREADS=1 nice -n 15 $(BIN)/python -m tests.mutation.run --seed $(SEED) --results outputs/mutants-$(SEED).jsonl

# In an environment of its own, so that the tool's dependencies do not mix with ours.
audit:
	@test -x $(VENV)-audit/bin/pip-audit || ($(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet pip-audit==2.9.0)
	$(VENV)-audit/bin/pip-audit -r requirements.txt --no-deps --disable-pip

licences: $(VENV)/.runtime
	$(BIN)/python -m tools.licences > docs/licences.md

clean:
	rm -rf $(VENV)
	find outputs -mindepth 1 -maxdepth 1 ! -name models ! -name .gitkeep -exec rm -rf {} +
