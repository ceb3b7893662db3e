# make demo    trains a StyleGAN2 on real handwritten digits, about 3 minutes on 2 CPU cores
# make test    the whole test suite
# make lint    ruff, mypy, clang-format
# make bench   the benchmarks of the ops on this machine
# make gpu-check [PEER=path]    on a machine with a GPU: build, tests, sanitizers, figures, one JSON; under ten minutes
# make faults  kills and stops runs of the command hundreds of times (GANKERN_KILLS=500), and trains for 10 minutes in one
#              process: nothing is lost, nothing grows; docs/faults.md
# make fuzz    any calls of the ops against the reference: GANKERN_FUZZ=20000 of all ops; docs/reliability.md
# make sanitize   the CPU kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
# make dropin-check PEER=path   a checkout of a published project, before and after gankern.patch()
# Each sets up what it needs in .venv, once. Settings: PYTHON=python3.12, TORCH=torch==2.11.0, GANKERN_BUILD=cpu.

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
SOURCES := setup.py pyproject.toml $(wildcard csrc/*/*)
RUN := OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=20000 $(VENV)/bin

.PHONY: demo test lint format bench gpu-check faults fuzz sanitize dropin-check clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.built
	$(RUN)/gankern train

test: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n auto --dist worksteal tests

lint: $(VENV)/.tested
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run -Werror $(wildcard csrc/*/*)

format: $(VENV)/.tested
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(wildcard csrc/*/*)

bench: $(VENV)/.tested
	$(RUN)/python -m bench.run

gpu-check:  # with the Python that has the GPU's PyTorch, and into it
	$(PYTHON) -m bench.gpu_check $(if $(PEER),--peer "$(PEER)")

faults: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(RUN)/python tests/models/training/count_faults.py
	OMP_NUM_THREADS=1 $(RUN)/python tests/models/training/soak.py

fuzz: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(RUN)/python tests/fuzz/long_run.py --save bench/results/fuzz-cpu.json

sanitize: $(VENV)/.tested
	PYTHONPATH= $(RUN)/python tests/sanitizers/check.py --save bench/results/sanitizers-cpu.json

dropin-check: $(VENV)/.built
	@test -n "$(PEER)" || { echo "make dropin-check PEER=path/to/checkout"; exit 2; }
	$(RUN)/python tests/dropin/peer.py "$(PEER)"

clean:
	rm -rf $(VENV) build dist *.egg-info gankern/*.so

$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("gankern needs Python 3.11 or later: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q "$(TORCH)" "numpy<2.4" setuptools wheel ninja pybind11
	@touch $@

$(VENV)/.built: $(VENV)/.torch $(SOURCES)
	$(VENV)/bin/pip install -q --no-build-isolation -e ".[train]"
	@touch $@

$(VENV)/.tested: $(VENV)/.built
	$(VENV)/bin/pip install -q --no-build-isolation -e ".[train,test,bench,dev]"
	@touch $@
