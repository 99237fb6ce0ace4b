# Three commands on a fresh machine with Python 3.11+ and make:
#   make demo    from synthesised speech to a published, audited adapter
#   make serve   a page on this machine that transcribes with the embedded catalogue
#   make test    every check that a change must pass
# The first run makes .venv and installs, which downloads PyTorch; later runs reuse it until pyproject.toml or constraints.txt change.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# one thread a test and one worker a core: threads of several tests on one core only wait for each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

.PHONY: demo serve test test-slow test-real test-lowest reproduce format readme schemas constraints clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile
	@echo "make test-slow (only the long tests), test-real REAL=FOLDER SPEECH=FOLDER (on a real Whisper and real speech), test-lowest (the lowest versions of everything), reproduce (LoRA-Whisper's tables in miniature: two hours on two cores, resumable)"
	@echo "make format, readme (what README.md and docs/ show), schemas, constraints, clean"

demo: $(INSTALLED)
	@$(BIN)/adapter-hub demo

serve: $(INSTALLED)
	@$(BIN)/adapter-hub serve auto --alias whisper-1=auto

test: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)
	$(PYTEST) -m slow tests/test_wheel.py tests/test_demo.py

test-slow: $(INSTALLED)
	$(PYTEST) -m slow --timeout=1800 # those that say so have longer

# what holds of the embedded model has to hold of a real one, like a folder with openai/whisper-base; SPEECH is a data
# set in English, with train and test
test-real: $(INSTALLED)
	ADAPTER_HUB_REAL=$(abspath $(REAL)) ADAPTER_HUB_REAL_SPEECH=$(abspath $(SPEECH)) $(PYTEST) -n 0 -m real

# what pyproject.toml promises, and pip never installs by itself: the lower bound of every range
test-lowest: .venv-lowest/.installed
	$(subst $(BIN),.venv-lowest/bin,$(PYTEST))

reproduce: $(INSTALLED)
	$(BIN)/adapter-hub reproduce lora-whisper --out runs/lora-whisper

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

readme: $(INSTALLED)
	COLUMNS=100 $(BIN)/python tests/readme.py

schemas: $(INSTALLED)
	$(BIN)/python -m adapter_hub.formats.schemas

# after trying newer versions in .venv: write down what is there
constraints: $(INSTALLED)
	@sed -n '/^#/p' constraints.txt > .venv/constraints.txt
	@$(BIN)/python -m pip freeze --all --exclude-editable --exclude pip --exclude wheel \
	    | grep -vi '^nvidia\|^triton\|^cuda' | sed 's/+cpu$$//' >> .venv/constraints.txt
	@mv .venv/constraints.txt constraints.txt

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.venv-lowest/.installed: pyproject.toml constraints-lowest.txt build_hooks.py
	@$(PYTHON) -m venv --clear .venv-lowest
	@.venv-lowest/bin/python -m pip install --quiet --upgrade pip
	@.venv-lowest/bin/python -m pip install --quiet -c constraints-lowest.txt -e '.[ctranslate2,data,demo,dev,media,plots,ray,serve,train,vad]'
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt build_hooks.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "installing into .venv (the first time downloads torch)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ctranslate2,data,demo,dev,media,plots,ray,serve,train,vad]'
	@touch $@
