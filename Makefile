# One word each, the same here and in CI. `make setup` makes .venv; everything else begins with it.

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-vault test packages servers lint types bench fuzz pictures

help:
	@echo "make setup      make .venv, with everything that the rest needs"
	@echo "make demo       run the examples under a real Airflow, and say what came out"
	@echo "make demo-vault the same with a real Vault and PostgreSQL behind it"
	@echo "make test       format, lint, types, import contracts, tests; ARGS=--long for all of them"
	@echo "make servers    find or build the real servers that tests talk to"
	@echo "make lint       format, lint and import contracts"
	@echo "make types      mypy"
	@echo "make bench      time it beside the tools a user would pick instead"
	@echo "make fuzz       feed broken bytes to the parsers; SECONDS=30 each"
	@echo "make pictures   take the pictures of docs/pictures"

setup: $(VENV)/.made
	@:

$(VENV)/.made: pyproject.toml constraints.txt .ci/make-venv
	@.ci/make-venv $(VENV) test
	@touch $@

demo: setup
	@exec $(PYTHON) -m dags_examples.demo.run

demo-vault: setup
	@.ci/need-package postgresql '/usr/lib/postgresql/*/bin/initdb'
	@exec $(PYTHON) -m dags_examples.demo.run_vault

test: packages servers lint types
	@exec $(BIN)/pytest -n 2 --no-loadscope-reorder $(ARGS)

packages: setup
	@.ci/need-package chromium
	@.ci/need-package postgresql '/usr/lib/postgresql/*/bin/initdb'
	@.ci/need-package slapd /usr/sbin/slapd
	@.ci/need-package softhsm2 /usr/bin/softhsm2-util
	@.ci/need-package openssh-client /usr/bin/ssh-agent
	@.ci/need-package libpangoft2-1.0-0 '/usr/lib/*/libpangoft2-1.0.so.0'
	@.ci/need-package libharfbuzz-subset0 '/usr/lib/*/libharfbuzz-subset.so.0'
	@.ci/need-package fonts-dejavu-core /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
	@.ci/need-package openjdk-17-jdk-headless /usr/bin/javac

servers: setup
	@exec $(PYTHON) tests/servers/build.py vault s3 litewitness fsck sumdb >/dev/null

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

$(VENV)/.made-bench: $(VENV)/.made
	@.ci/make-venv $(VENV) bench
	@touch $@

bench: $(VENV)/.made-bench
	@.ci/need-package age
	@exec $(PYTHON) benchmarks/run.py --picture $(ARGS)

SECONDS := 30
fuzz: setup
	@for program in tests/fuzz/fuzz_*.py; do \
		$(PYTHON) "$$program" --seconds $(SECONDS) || exit; \
	done

pictures: setup packages
	$(PYTHON) docs/make_pictures.py
