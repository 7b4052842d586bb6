# Two commands matter: `make demo` and `make test`. Both set up everything they need; `make` alone lists the rest.
# Debian's own Python is built with profile-guided optimisation, others on PATH often are not: a fifth of a page's cost.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
DEBIAN := chromium firefox-esr fonts-dejavu-core libatomic1 # the last for the browsers' driver
SERVERS := redis-server # a real one, for the store and the events
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help demo test lint test-unit test-browser test-lowest bench fuzz soak fmt docs constraints browsers servers .servers clean
.DELETE_ON_ERROR:

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

demo: $(VENV)/.demo ## seven contexts and the gateway at http://127.0.0.1:8000/ (PORT=… for another port)
	@exec $(BIN)/bff demo --port $(PORT)

test: lint test-unit test-browser ## everything a change has to pass: lint, types, units with coverage, real browsers

lint: $(VENV)/.dev ## ruff and mypy
	@echo "── lint: ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "── types: mypy --strict"
	@$(BIN)/mypy

test-unit: $(VENV)/.dev servers ## pytest without browsers; coverage of branches at least 95 %
	@echo "── tests: units, sockets, documents, the wheel"
	@$(BIN)/pytest -m "not browser" --cov --cov-report=term --cov-fail-under=95

test-browser: $(VENV)/.dev browsers ## pytest in Chromium and Firefox
	@echo "── tests: browsers"
	@$(BIN)/pytest -m browser

test-lowest: constraints.txt pyproject.toml ## the unit tests on the oldest dependencies that pyproject.toml admits
	@$(PYTHON) tests/lowest.py

bench: $(VENV)/.demo ## this gateway beside nginx SSI and Varnish ESI, two workers beside one (JSON=… keeps the figures)
	@$(BIN)/python -m tests.bench.run $(if $(JSON),--json $(JSON))

fuzz: $(VENV)/.dev ## make up inputs for what reads others' bytes (FUZZ=… of them for each; what is found goes into tests/corpus)
	@FUZZ=$(or $(FUZZ),20000) $(BIN)/pytest --no-cov -p no:cacheprovider --timeout=0 -k any_bytes tests/fuzz

soak: $(VENV)/.dev ## a gateway under mixed faults and clients for ten minutes: leaks, outcomes, latencies (SOAK=… seconds, JSON=… keeps the report)
	@$(BIN)/python -m tests.soak.run --seconds $(or $(SOAK),600) $(if $(JSON),--json $(JSON)) 2>$(VENV)/soak.log || { \
	  echo "error: what was said on the way is in $(VENV)/soak.log" >&2; exit 1; }

fmt: $(VENV)/.dev ## format the code
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

docs: $(VENV)/.demo ## write the pages of docs/ that the program itself knows again: settings, commands, caching
	@$(BIN)/python docs/generate.py

constraints: ## resolve the newest versions again and pin them
	@rm -rf $(VENV)/pins && $(PYTHON) -m venv $(VENV)/pins && $(VENV)/pins/bin/pip install -q -e ".[dev]"
	@{ head -n 1 constraints.txt; $(VENV)/pins/bin/pip freeze --exclude-editable | grep -E '^[A-Za-z0-9_.-]+==' | sort -f; } > $(VENV)/pins.txt
	@mv $(VENV)/pins.txt constraints.txt && rm -rf $(VENV)/pins

clean: ## remove what the other commands made
	rm -rf $(VENV) dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What `pip install` needs is checked before it runs, so that each thing missing is told in one line.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is missing; install Python 3.11 or newer: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$($(PYTHON) --version 2>&1) is too old; Python 3.11 or newer is needed: make PYTHON=python3.11 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: $(PYTHON) cannot make virtual environments; install them: apt-get install python3-venv" >&2; exit 1; }
	@echo "── setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)

# $(call install,WHAT): pip's own words only where it failed, and what is most likely missing in one line after them.
define install
	@echo "── installing $(1) (once for each version of pyproject.toml and constraints.txt)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "$(1)" >$(VENV)/install.log 2>&1 || { \
	  cat $(VENV)/install.log >&2; \
	  if grep -qiE "gcc|cc1|g\+\+|clang|cmake|compiler" $(VENV)/install.log && ! command -v cc >/dev/null; \
	  then echo "error: a dependency has no ready-made build for this machine and needs a compiler: apt-get install build-essential python3-dev" >&2; \
	  else echo "error: the dependencies could not be installed; the lines above say why" >&2; fi; \
	  exit 1; }
	@$(BIN)/python -m compileall -q bff # else each start compiles it again, where Python may not write beside the sources
	@touch $@
endef

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.)

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[dev])
	@touch $(VENV)/.demo

# $(call debian,PACKAGES,WHAT FOR): what is missing is installed by root, and named to anybody else.
define debian
	@missing=""; for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "error: the $(2) tests need Debian's packages: sudo apt-get install$$missing" >&2; exit 1; fi; \
	echo "── installing$$missing"; export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive; \
	{ apt-get update -q && apt-get install -q -y --no-install-recommends $$missing; } >$(VENV)/apt.log 2>&1 </dev/null || \
	{ tail -n 20 $(VENV)/apt.log >&2; echo "error: could not install$$missing; the lines above say why" >&2; exit 1; }
endef

browsers:
	$(call debian,$(DEBIAN),browser)

servers: | $(BIN)/python
	@command -v redis-server >/dev/null || command -v valkey-server >/dev/null || $(MAKE) --no-print-directory .servers

.servers:
	$(call debian,$(SERVERS),unit)
