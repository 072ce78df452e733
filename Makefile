# make run and make test need Python 3.11 or newer and nothing else; the rest is for developers.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS ?=
PYTEST_ARGS ?=
TEST_PROCESSES ?= 4
FUZZ_SECONDS ?= 60
FUZZ_ENTRIES ?= auth bdat commands framing proxy session

.PHONY: help run test lint format types check cover bench chaos fuzz docs site clean
.PHONY: deb lintian lifecycle test-debian12 test-debian13

SEED ?=
BENCH_ARGS ?=
CHAOS_ARGS ?=
LIFECYCLE_ARGS ?=
AS_ROOT = $(if $(filter-out 0,$(shell id -u)),sudo) env PYTHONDONTWRITEBYTECODE=1 \
	$(foreach name,PYTEST_ARGS ROOT_CACHE DEBIAN_MIRROR,$(if $($(name)),$(name)="$($(name))"))

help: ## this list
	@sed -n 's/^\([a-z0-9 -]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

run: $(VENV)/installed ## start the relay on the embedded sandbox
	$(BIN)/python relay.py sandbox

test: $(VENV)/developed ## run all tests
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --timeout 900 $(PYTEST_ARGS)

lint: $(VENV)/developed ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/developed ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/developed ## mypy --strict
	$(BIN)/mypy

check: lint types test ## what CI runs

cover: $(VENV)/developed ## the tests again, with branch coverage
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: $(VENV)/developed ## measure speed and memory (some ten minutes; needs nginx); figures and chart go to build/
	@mkdir -p build
	$(BIN)/python tests/bench/bench.py --json build/bench.json --chart build/bench.svg $(BENCH_ARGS)

fuzz: $(VENV)/developed ## feed random octets to the SMTP side, for FUZZ_SECONDS in all
	$(BIN)/python -m pip install --quiet atheris || true
	for entry in $(FUZZ_ENTRIES); do \
		mkdir -p build/fuzz/$$entry; \
		$(BIN)/python tests/fuzz/fuzz.py $$entry -max_total_time=$$(($(FUZZ_SECONDS) / $(words $(FUZZ_ENTRIES)))) \
			-max_len=256 -timeout=20 -dict=tests/fuzz/smtp.dict -print_final_stats=1 -artifact_prefix=build/fuzz-$$entry- \
			build/fuzz/$$entry tests/fuzz/corpus/$$entry || exit 1; \
	done

chaos: $(VENV)/developed ## a thousand messages while everything fails; SEED=… repeats a run, CHAOS_ARGS=--short is for CI
	$(BIN)/python tests/chaos/chaos.py $(addprefix --seed ,$(SEED)) $(CHAOS_ARGS)

docs: $(VENV)/installed ## write what is made from the command line and the table of keys: conf/, docs/, man pages, completion
	$(BIN)/python packaging/make_config_docs.py
	$(BIN)/python packaging/make_command_docs.py

site: $(VENV)/installed ## the documentation as a static site, in build/site; a broken link is an error
	$(BIN)/python -m pip install --quiet 'mkdocs>=1.6' pymdown-extensions
	$(BIN)/python packaging/make_site.py
	$(BIN)/mkdocs build # not --quiet: warnings that are not logged are not counted

deb: ## the Debian package, in dist/
	packaging/build_deb.sh

lintian: deb ## let lintian look at it
	lintian --fail-on error,warning --allow-root --info build/deb/*.changes

lifecycle: deb $(VENV)/developed ## the Debian package's life in clean systems of Debian 12 and 13 (takes root, by sudo)
	$(AS_ROOT) $(BIN)/python tests/lifecycle/deb.py $(LIFECYCLE_ARGS)

test-debian12 test-debian13: deb $(VENV)/developed ## the tests in such a system, with its own libraries
	$(AS_ROOT) $(BIN)/python tests/lifecycle/deb.py --no-lifecycle --tests $(if $(findstring 12,$@),bookworm,trixie)

TOOLS := build/tools/bin
RPM_MACHINES ?= $(shell uname -m)

.PHONY: pyz rpm lifecycle-bundles dist lock audit

# So that two builds of one commit are the same.
pyz rpm dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 315532800)

pyz: build/tools/ready ## dist/graph-smtp-relay.pyz, the single file
	$(TOOLS)/python packaging/build_pyz.py

rpm: build/tools/ready ## RPMs: one with the libraries, for each of RPM_MACHINES, and one for Fedora's own
	$(TOOLS)/python packaging/bill.py
	PYTHON=$(TOOLS)/python packaging/build_rpm.sh $(RPM_MACHINES)

lifecycle-bundles: pyz rpm $(VENV)/developed ## RPMs and single file in clean systems of Debian 12 and 13 (takes root, by sudo)
	$(AS_ROOT) $(BIN)/python tests/lifecycle/bundles.py

dist: build/tools/ready ## everything of a release, in dist/
	rm -rf dist
	$(TOOLS)/python -m build --no-isolation --outdir dist . >build/build.log || { cat build/build.log; exit 1; }
	$(MAKE) pyz deb
	$(MAKE) rpm RPM_MACHINES="x86_64 aarch64"
	cd dist && sha256sum * >SHA256SUMS && cat SHA256SUMS

lock: build/maintenance/ready ## take the newest libraries into packaging/requirements/
	for part in "setup.py -o runtime.txt" "setup.py --extra dev -o development.txt" \
			"packaging/requirements/tools.in -o tools.txt" "packaging/requirements/maintenance.in -o maintenance.txt"; do \
		UV_CUSTOM_COMPILE_COMMAND="make lock" build/maintenance/bin/uv pip compile --quiet --upgrade --universal \
			--python-version 3.11 --generate-hashes $${part%-o *} -o packaging/requirements/$${part#*-o } || exit 1; \
	done

audit: build/maintenance/ready ## ask for known vulnerabilities of the bundled libraries (needs the internet)
	build/maintenance/bin/pip-audit --disable-pip --require-hashes -r packaging/requirements/runtime.txt

clean: ## remove everything that make made
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian and Ubuntu: apt install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/installed: setup.py $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable . $(addprefix --constraint ,$(CONSTRAINTS))
	@touch $@

$(VENV)/developed: setup.py $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]' $(addprefix --constraint ,$(CONSTRAINTS))
	@touch $@ $(VENV)/installed

build/%/ready: packaging/requirements/%.txt
	rm -rf build/$*
	$(PYTHON) -m venv build/$*
	build/$*/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@
