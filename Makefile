# Everything a newcomer runs. Each target sets up what it needs in .venv first.
PYTHON ?= python3
PIP = .venv/bin/pip --disable-pip-version-check --quiet
DATA ?= youju-data
EVAL ?= ../shared/eval

.PHONY: demo serve test check bench packings crash fuzz browser clean

demo: .venv/base
	.venv/bin/python samples/demo.py --data $(DATA)

serve: .venv/base
	.venv/bin/youju serve --data $(DATA) --no-auth

test: .venv/test check
	.venv/bin/python -m pytest

check: .venv/test
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

bench: .venv/test
	.venv/bin/python -m bench --eval $(EVAL)

# The packer's property on ten times as many prompts as `make test` tries.
packings: .venv/test
	PACKINGS=20000 .venv/bin/python -m pytest tests/test_packer.py -k fits --timeout=1200

# The long tiers of the crash harness (`make test` runs the quick ones): hours.
CYCLES ?= 10000
KILLS ?= 500
DAMAGED ?= 3000
crash: .venv/test
	.venv/bin/python tests/crash/fault_loop.py
	.venv/bin/python tests/crash/damage.py --files $(DAMAGED)
	.venv/bin/python tests/crash/cycles.py --cycles $(CYCLES)
	.venv/bin/python tests/crash/served.py --cycles $(KILLS)

# Mutated files over every parser, through the real sandbox: hours. FORMAT=pdf for one.
FORMAT ?= all
FUZZED ?= 50000
fuzz: .venv/test
	.venv/bin/python tests/fuzz/fuzz.py --format $(FORMAT) --files $(FUZZED) --processes 2 --keep $(DATA)-fuzz

# What the browser tests drive; without it they are skipped and say so. Debian and Ubuntu, as root.
browser:
	command -v chromium || (apt-get update && apt-get install --yes --no-install-recommends chromium fonts-noto-cjk)

.venv/base: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

.venv/test: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt --editable '.[test,sus-chat,sentence-transformers,langchain,onnx,ocr]'
	-YOUJU_MODELS=.venv/models .venv/bin/youju models fetch use-multilingual-onnx
	touch .venv/base $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
