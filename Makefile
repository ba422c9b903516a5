# Everything a newcomer runs. Each target sets up what it needs in .venv first.
PYTHON ?= python3
PIP = .venv/bin/pip --disable-pip-version-check --quiet
DATA ?= youju-data
EVAL ?= ../shared/eval

.PHONY: demo serve test check bench packings browser clean

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

# What the browser tests drive; without it they are skipped and say so. Debian and Ubuntu, as root.
browser:
	command -v chromium || (apt-get update && apt-get install --yes --no-install-recommends chromium fonts-noto-cjk)

.venv/base: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

.venv/test: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt --editable '.[test,sus-chat,langchain,ocr]'
	touch .venv/base $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
