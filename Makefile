# Every target is phony: what is stale is judged by recorded hashes, never by file times.
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.NOTPARALLEL:
.PHONY: help setup demo ladder quantize serve bench breakeven report doctor trace gpu-proof test test-fast test-explore test-system test-browser test-engine test-gpu bench-self compare-vllm-bench check format schemas lock clean
.DEFAULT_GOAL := help

# More than cores: many tests wait for a process or a clock.
TEST_PROCESSES ?= 3
EXP ?= configs/experiments/demo.yaml
# vLLM has no kernel of packed INT4 for x86 CPUs without AVX-512.
AVX2 = $(shell ! command -v nvidia-smi >/dev/null && grep -qsw avx2 /proc/cpuinfo && ! grep -qsw avx512f /proc/cpuinfo && echo -avx2)
DEMO = configs/experiments/demo$(if $(QUICK),-quick)$(AVX2).yaml
SCHEME_FLAG = $(if $(SCHEME),--scheme $(SCHEME))
PY = .venv/bin/python
# The command dies with make, however make dies; it takes everything that it started with it.
TOKENHOUR = TOKENHOUR_PARENT_PID=$$PPID exec .venv/bin/tokenhour
QUIET_SETUP ?= 1
export QUIET_SETUP
# The environments are ours: without compiled files each of an engine's three processes starts 8 s later.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the verbs
	@printf 'tokenhour: what one hour of your own GPU buys, and which API it beats\n\n'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-18s %s\n", $$1, $$2}'
	@printf '\nOne stage:   make quantize|serve|bench|breakeven|report EXP=configs/experiments/demo.yaml [SCHEME=w8a8]\nIn a hurry:  make demo QUICK=1\n'

setup: ## install both environments, .venv and .venv-engine (does nothing when they are up to date)
	@requirements/setup.sh all

demo: setup ## the whole chain on real open weights: quantize, serve, measure, decide, report (QUICK=1: 5 minutes)
	@$(TOKENHOUR) run $(DEMO)

ladder: setup ## the smallest precision of EXP that keeps its quality gate, with a table and a plot
	@$(TOKENHOUR) quantize ladder $(EXP)

quantize: setup ## weights to INT8/INT4 checkpoints with their quality, for EXP
	@$(TOKENHOUR) quantize run $(EXP) $(SCHEME_FLAG)

serve: setup ## serve a checkpoint of EXP with vLLM until Ctrl-C
	@$(TOKENHOUR) serving run $(EXP) $(SCHEME_FLAG)

bench: setup ## start the server of EXP, measure its capacity at the SLO, stop it
	@$(TOKENHOUR) serving run $(EXP) $(SCHEME_FLAG) -- .venv/bin/tokenhour bench run $(EXP) $(SCHEME_FLAG)

breakeven: setup-house ## solve break-even for EXP from its measured summaries and the price tables
	@$(TOKENHOUR) breakeven solve $(EXP)

report: setup-house ## render the report of EXP
	@$(TOKENHOUR) report $(EXP)

gpu-proof: setup ## on a GPU: BF16, FP8, INT8, INT4 measured and priced, 20 minutes (QUICK=1: 8; MODEL=./folder: real weights)
	@$(TOKENHOUR) gpu-proof $(if $(QUICK),--quick) $(if $(MODEL),--model $(MODEL)) $(if $(INSTANCE),--instance $(INSTANCE))

doctor: setup-house ## what this machine can do, and what is missing for what
	@$(TOKENHOUR) doctor

test: setup test-fast test-system test-browser test-engine ## install and run everything: the fast suite, our processes, the page in a browser, real vLLM

test-fast: setup-house ## the fast suite alone
	@$(PY) -m pytest -m 'not engine and not gpu and not browser and not system' -n $(TEST_PROCESSES) --dist loadfile

test-explore: setup-house ## the fast suite with new random examples; what it finds becomes an @example
	@HYPOTHESIS_PROFILE=explore $(PY) -m pytest -m 'not engine and not gpu and not browser and not system' -n $(TEST_PROCESSES) --dist loadfile

test-system: setup-house ## tests that start generators, supervisors and quantizers, with faults injected
	@$(PY) -m pytest -m system -n $(TEST_PROCESSES) --dist loadfile

test-browser: setup-house ## the report's page in headless Chromium (root on Debian or Ubuntu: installs it when it is missing)
	@tests/browser/chromium.sh
	@$(PY) -m pytest -m browser tests/browser

test-engine: setup ## real quantizers and real vLLM on the CPU
	@$(PY) -m pytest -m engine -vv tests/engine

test-gpu: setup ## tests that need an NVIDIA GPU
	@$(PY) -m pytest -m gpu -vv

bench-self: setup-house ## how fast the instruments themselves are (FILE=benchmarks/test_x.py for one)
	@$(PY) -m pytest $(or $(FILE),benchmarks) --benchmark-only --benchmark-columns=min,median,max,rounds -p no:randomly

compare-vllm-bench: setup ## the same workload through this project and through vllm bench serve, on the server of EXP
	@$(TOKENHOUR) serving run $(EXP) --scheme $(or $(SCHEME),none) -- $(PY) -m benchmarks.compare_vllm

check: setup-house ## format, lint, types, import laws
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m tokenhour.frontdoor.docgen.schemas --check

format: setup-house ## format and fix what can be fixed
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

schemas: setup-house ## generate configs/schemas/ and docs/records/ from contracts/
	@$(PY) -m tokenhour.frontdoor.docgen.schemas

lock: ## resolve the lock files again
	@UV=$$(command -v uv || echo .uv/bin/uv) requirements/lock.sh

clean: ## remove both environments (results and checkpoints stay)
	@rm -rf .venv .venv-engine .uv

.PHONY: setup-house
setup-house:
	@requirements/setup.sh house
