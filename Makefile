# make demo        the whole path on real digits, report and all
# make test        every test but the slow proofs, in a modern Python and the core in CPython 3.10
# make test-slow   the slow proofs too
# make test-floors   the quick tests in the oldest versions of everything that pyproject.toml admits
# make test-pythons  the quick tests of what needs no torch in CPython 3.10, 3.12 and 3.13
# make test-web    exported files in a web page, and a report, in Chromium and under node; npm puts both into tests/exporters/web
# make test-wheel  the wheel, and the source archive it is made of, installed and used in clean environments
# make fuzz        20,000 damaged files of each kind that is read; out/fuzz keeps those at fault
# make lint        ruff, and mypy on what ships
# make docs        the pages as a site, in out/site; it needs no network once .venv-docs stands
PYTHON ?= python3
VENV := .venv
LAVA := .venv-lava
DOCS := .venv-docs
BIN := $(VENV)/bin
# numpy's second BLAS thread only waits for its turn where other programs run.
export OPENBLAS_NUM_THREADS ?= 1
# Tests of the torch-free core; they also run in CPython 3.10 with numpy 1.26, beside Lava.
CORE_TESTS := tests/test_dynamics.py tests/test_validation.py tests/ir tests/passes tests/counting tests/runtimes/test_reference.py tests/versions/test_networks.py
# A process for each core, and a file's tests in one of them: they share what they built.
PARALLEL := -n auto --dist loadfile

.PHONY: demo test test-slow test-floors test-pythons test-wheel test-web fuzz test-core lint docs lava clean

demo: $(VENV)/.ready lava
	$(BIN)/tet-deploy demo

test: $(VENV)/.foreign lava test-core
	$(BIN)/python -m pytest -q -m "not slow" $(PARALLEL)

# Also the GPU kernels, in Triton's interpreter; triton is a gigabyte, so only here.
test-slow: $(VENV)/.foreign lava test-core
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt triton
	$(BIN)/python -m pytest -q $(PARALLEL)

# The core beside Lava; without a Lava Python it is skipped in one line, or fails where Lava is required.
test-core: lava
	@if [ -x $(LAVA)/bin/python ]; then \
	    [ -e $(LAVA)/lib/.tests-ready ] || { $(LAVA)/bin/python -m pip install -qq --disable-pip-version-check \
	        "numpy==1.26.4" pytest hypothesis safetensors && touch $(LAVA)/lib/.tests-ready; } ; \
	    $(LAVA)/bin/python -m pytest -q -m "not slow" -p no:cacheprovider $(CORE_TESTS) ; \
	elif [ -n "$$TET_DEPLOY_REQUIRE_LAVA" ]; then echo "the core's tests need $(LAVA), which could not be built" >&2; exit 1 ; \
	else echo "skipping the core's tests in CPython 3.10: no $(LAVA)" ; fi

# A CPython that is not here is skipped in one line, or fails where TET_DEPLOY_REQUIRE_PYTHONS is set.
test-floors: $(VENV)/.ready lava
	@$(BIN)/python tests/environments.py floors

test-pythons: $(VENV)/.ready lava
	@$(BIN)/python tests/environments.py 3.10 3.12 3.13

test-wheel: $(VENV)/.ready
	@$(BIN)/python tests/wheels.py 3.10 3.11 3.12 3.13

# It fails where a web page cannot be had; `make test-slow` skips it there, and says why.
test-web: $(VENV)/.ready
	TET_DEPLOY_REQUIRE_WEB=1 $(BIN)/python -m pytest -q tests/exporters/test_onnx_in_browser.py tests/reporting/test_page_in_browser.py

fuzz: $(VENV)/.ready
	$(BIN)/python tests/fuzz/runner.py

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/typecheck.py

# Strict: a link, an anchor or a docstring that leads nowhere fails it. With -q none is counted, and nothing fails.
docs: $(DOCS)/.ready
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build -f docs/site/mkdocs.yml
	@echo "out/site/index.html"

$(DOCS)/.ready: pyproject.toml constraints.txt
	@echo "building $(DOCS) with mkdocs, which takes half a minute"
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# What the project needs, in an environment of its own; built once, and again when its description changes.
$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "building $(VENV) with torch, onnx, tonic and what else is needed; this takes a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

# Frameworks whose networks we take, without what they depend on: that would be another torch. A registry that lacks them
# costs their tests, which say so in one line, or everything where TET_DEPLOY_REQUIRE_FOREIGN is set.
$(VENV)/.foreign: $(VENV)/.ready benchmarks/requirements.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -r benchmarks/requirements.txt \
	    && touch $@ || [ -z "$$TET_DEPLOY_REQUIRE_FOREIGN" ]

# Lava runs in CPython 3.10, found or fetched by the tool itself; a demo without it still does the rest.
lava: $(VENV)/.ready
	@$(BIN)/tet-deploy doctor --setup-lava --into $(LAVA) --quiet || [ -z "$$TET_DEPLOY_REQUIRE_LAVA" ]

clean:
	rm -rf $(VENV) $(VENV)-* build out *.egg-info tests/exporters/web/node_modules
