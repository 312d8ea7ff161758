# Ghostwriter on one machine. Bare `make` prints the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up demo down status logs clean test check bench bench-llm bench-decision mutation lock secrets install

# Settings come from the command line (make up PORT_OFFSET=100), the environment or .env, in this order.
export STATE_DIR PORT_OFFSET GHOSTWRITER_CACHE_DIR PYTHON YES
# An empty variable means "not set".
ifeq ($(STATE_DIR),)
unexport STATE_DIR
endif
ifeq ($(PORT_OFFSET),)
unexport PORT_OFFSET
endif
ifeq ($(GHOSTWRITER_CACHE_DIR),)
unexport GHOSTWRITER_CACHE_DIR
endif
ifeq ($(PYTHON),)
unexport PYTHON
endif

python := .venv/bin/python
stack := $(python) -m stack
# Files of tests side by side, each in one piece and in the order given; at most four: some take a GB or two.
side_by_side := --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# A deployment whose environment is the main one alone needs no other.
parts := $(if $(filter lineage,$(D)),main,main llm)
# The trainer's environment is by far the largest, so it comes after the first post; it is for our own LLM server alone.
hosted = $(or $(GHOSTWRITER_LLM_BASE_URL),$(shell sed -n 's/^GHOSTWRITER_LLM_BASE_URL=//p' .env 2>/dev/null))
later = $(if $(hosted)$(filter ingest serving lineage,$(D)),,trainer)

help: ## what can be done here (this list)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## install and start everything, write a first post (D=ingest: that deployment and what it needs)
	@stack/bootstrap.sh $(parts)
	@$(stack) up $(if $(D),--deployment $(D))
	@$(if $(later),stack/bootstrap.sh $(later),true)

demo: ## the point of it all: base model against champion, sources, audit, a fact edited and cited
	@.venv/bin/ghostwriter demo

down: ## stop everything, keep the data
	@[ ! -x $(python) ] || $(stack) down

status: ## what runs, since when, and where
	@stack/bootstrap.sh main
	@$(stack) status

logs: ## the newest log lines of all, or follow one: make logs S=llm
	@stack/bootstrap.sh main
	@$(stack) logs $(if $(S),$(S) --follow)

clean: ## stop everything and remove the data; asks first (YES=1 does not)
	@[ -x $(python) ] || stack/bootstrap.sh main
	@$(stack) clean

install: ## install what make up needs, and start nothing
	@stack/bootstrap.sh main llm trainer

check: ## formatting, lint, types, import rules, containers, unit tests: a minute or two
	@stack/bootstrap.sh main
	@$(python) -m ruff format --check .
	@$(python) -m ruff check .
	@$(python) -m mypy
	@.venv/bin/lint-imports
	@$(python) -m pytest -q --numprocesses logical --dist worksteal

# Where a test failed (1) the end-to-end tests run nevertheless; where pytest was ended (2) they don't.
test: ## make check, then the integration (other people's clients too), browser and end-to-end tests, on a stack of their own
	@stack/bootstrap.sh main llm trainer clients
	@$(MAKE) --no-print-directory check
	@$(python) -m pytest -q $(side_by_side) tests/integration tests/browser; failed=$$?; \
	  [ $$failed -le 1 ] || exit $$failed; \
	  $(python) -m pytest -q tests/e2e && exit $$failed

bench: ## measure the figures of docs/operations.md
	@stack/bootstrap.sh main llm trainer
	@$(python) -m benchmarks

bench-llm: ## measure the LLM server and its engines beside the bare libraries, for docs/engines.md (a quarter of an hour)
	@stack/bootstrap.sh main llm trainer
	@$(python) -m benchmarks.llm_server --write
	@.venv-llm/bin/python -m benchmarks.embedding
	@.venv-trainer/bin/python -m benchmarks.training
	@$(python) -m benchmarks.engine_agreement

bench-decision: ## measure how often the promotion rule errs, into docs/decision-rates.md
	@stack/bootstrap.sh main
	@$(python) -m benchmarks.decision_rates

mutation: ## change the rules and see what the tests notice (M=deployments/training/decision.py: that module alone)
	@stack/bootstrap.sh main
	@$(python) -m benchmarks.mutation $(M)

lock: ## resolve the dependencies anew into requirements/
	@bash requirements/lock.sh

secrets: ## generate the secrets that are missing (for docker compose; make up does it by itself)
	@$${PYTHON:-python3} -m stack.secrets
