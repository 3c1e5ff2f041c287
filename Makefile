# demo, test, check, bench: each makes what it needs. Set PYTHON to use another interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench clean

demo: .venv/.base
	@mkdir -p out
	$(BIN)/segue continue examples/speech.wav --bundle speech --out out/speech.wav
	$(BIN)/segue continue examples/piano.wav --bundle piano --out out/piano.wav
	@echo
	@echo "Listen to (3 s of the recording, then 7 s that nobody recorded):"
	@echo "  $(CURDIR)/out/speech.wav"
	@echo "  $(CURDIR)/out/piano.wav"

test: .venv/.dev
	$(BIN)/python -m pytest -n 2

check: .venv/.dev
	$(BIN)/ruff check segue tests scripts benchmarks
	$(BIN)/ruff format --check segue tests scripts benchmarks
	$(BIN)/mypy segue

bench: .venv/.dev
	@test -n "$(DATA)" || { echo "make bench DATA=folder-of-held-out-sound"; exit 2; }
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[eval]"
	$(BIN)/python benchmarks/codec.py $(DATA)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.base: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[train,dev]"
	@touch $@ .venv/.base

clean:
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
