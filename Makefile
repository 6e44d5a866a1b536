# On a fresh machine: `make demo` or `make test`; both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo test test-all lint bench prism kafka dataflow clean

setup: $(STAMP)

$(STAMP): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/nightcat demo --directory demo

test: setup
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-all: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Beam's portable runner in Go, of the release of Beam that is installed; without Go its tests are skipped.
prism: $(BIN)/prism

$(BIN)/prism: $(STAMP)
	GOBIN=$(abspath $(BIN)) go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$$($(BIN)/python -c \
	    "import importlib.metadata as m; print(m.version('apache-beam'))")

# A Kafka broker for the tests; without Maven they are skipped.
kafka: $(VENV)/kafka/.fetched

$(VENV)/kafka/.fetched: tests/pipeline/kafka/pom.xml $(STAMP)
	mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(abspath $(VENV)/kafka)
	touch $@

# The Google libraries, apart: Beam imports them wherever it finds them, which slows every start.
dataflow: .venv-gcp/.installed

.venv-gcp/.installed: $(STAMP)
	test -x .venv-gcp/bin/python || $(PYTHON) -m venv .venv-gcp
	$(BIN)/uv pip install --quiet --python .venv-gcp/bin/python --constraint constraints.txt --editable '.[gcp,gcs]'
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/lint_docstrings.py

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-gcp demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
