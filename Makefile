# One command an act, the same at home and in CI. `make help` lists them.

PYTHON ?= python3
# Test processes, and those of another Python's suite beside them. Tests mostly wait for sockets and child processes:
# more than there are cores.
JOBS ?= 5
OTHER_JOBS ?= 3
# For how long `make fuzz` searches.
SECONDS ?= 60

# Whatever the environment says: without bytecode each process of the tests would compile everything again.
export PYTHONDONTWRITEBYTECODE =

BIN := .venv/bin
PREPARE := $(PYTHON) scripts/prepare.py
PYTEST_OPTIONS := -q --dist worksteal

# Imports all test modules, which compiles them, and makes no tests of them.
COMPILE := pytest -q --collect-only -o python_functions=none -o python_classes=None

FUZZER := tests/fuzz/test_core.py::test_mutated_streams

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test matrix lint format docs fuzz hostile reload soak bench bench-full clean programs venv checked compiled \
	suites suite others suites-of-others fuzzed

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run the Flask example over FastCGI, and say which URL to open; no web server is needed
	@$(PREPARE) venv .venv demo
	@exec $(BIN)/python scripts/demo.py

# The environments of the other Pythons are made beside set-up, linters and docs; tests are compiled once for each Python,
# and not by each process of its suite. Their suites, one after the other, run beside that of this Python, and the fuzzer,
# which only computes, takes what all of them leave of the processors. What runs beside is printed behind it.
test: ## everything: set-up, linters, types, docs, all tests with coverage, and those of the package on every other Python
	@$(call beside,others,programs venv checked)
	@rm -f .fuzzed .others
	@$(call beside,fuzzed,suites); echo "==> more than a million steps of the protocol core's fuzzer"; cat .fuzzed; exit $$status

programs:
	@$(PREPARE) programs

checked: venv
	@$(call beside,docs compiled,lint)

# Make the first targets while the others are made, and end those if these are interrupted; `status` tells of both.
beside = $(MAKE) --no-print-directory $(1) & first=$$!; trap 'kill $$first 2> /dev/null; exit 130' INT TERM HUP; \
	$(MAKE) --no-print-directory $(2); status=$$?; wait $$first || status=1; trap - INT TERM HUP; test $$status = 0

matrix: venv ## every web server and every scenario, and a table of what came out
	@$(PREPARE) programs
	$(BIN)/pytest $(PYTEST_OPTIONS) -n $(JOBS) -m scenario --matrix tests/webservers

others:
	@$(PREPARE) others
	@$(PREPARE) others $(COMPILE) > /dev/null 2>&1 || true

# Of low priority: beside the suites a part of it may take long.
fuzzed: venv
	@FUZZ_FACTOR=6 exec nice -n 5 $(BIN)/pytest -q -n 2 --timeout 1800 $(FUZZER) > .fuzzed 2>&1

suites: venv
	@$(call beside,suites-of-others,suite); cat .others; exit $$status

suite: venv
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_OPTIONS) -n $(JOBS) --deselect $(FUZZER)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --include='simple_fastcgi/protocol/*,simple_fastcgi/cgi/*' --fail-under=100
	$(BIN)/coverage report

# The other Pythons do what may come out differently with them: not what is slow, not what is marked "once" (see
# CONTRIBUTING.md), and with half as many examples of Hypothesis's.
suites-of-others:
	@exec $(PREPARE) others pytest $(PYTEST_OPTIONS) -n $(OTHER_JOBS) -m "not slow and not once" \
		--hypothesis-profile default > .others 2>&1

lint: venv ## check format, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: venv ## format the code and mend what the linter can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: venv ## build the documentation into docs/_build/html; a warning is an error
	$(BIN)/sphinx-build -q -E -W --keep-going -b html docs docs/_build/html

compiled: venv
	@$(BIN)/$(COMPILE) > /dev/null || true # what is wrong with them the suite tells

fuzz: ## search the protocol core for failures, guided by coverage, for SECONDS=60
	@$(PREPARE) venv .venv dev demo fuzz
	$(BIN)/python -m tests.fuzz.guided --seconds $(SECONDS)

hostile: venv ## attack servers of every kind at full size, and print what it costs them (about five minutes)
	@$(BIN)/python scripts/hostile.py

reload: venv ## load through nginx and HAProxy while workers come and go; fails if a request is lost (about three minutes)
	@$(BIN)/python scripts/reload.py

soak: SECONDS = 600
soak: venv ## mixed load on four workers for SECONDS=600, WSGI then ASGI, and what it leaves behind in them
	@$(BIN)/python scripts/soak.py --seconds $(SECONDS)

bench: ## compare the speed with other servers, within a minute once they are installed (into .bench)
	@$(PYTHON) -m benchmarks quick --output .bench/results

bench-full: ## all of the benchmarks, on every Python installed: about an hour; see docs/benchmarks.md
	@$(PYTHON) -m benchmarks full --output benchmarks/results

clean: ## remove everything that can be made again
	rm -rf .venv .venv-* .demo .fuzz .fuzzed .others .bench build dist docs/_build htmlcov .coverage .coverage.* .hypothesis \
		.pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@$(PREPARE) venv .venv dev demo
