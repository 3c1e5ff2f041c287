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
	@test -n "$(SPEECH)$(PIANO)" || { echo "make bench SPEECH=folder PIANO=folder, of held-out sound; one will do"; exit 2; }
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[eval,pretrained]"
	@mkdir -p out
	$(if $(SPEECH),$(BIN)/python benchmarks/codec.py $(SPEECH) --kind speech --json out/codec-speech.json)
	$(if $(PIANO),$(BIN)/python benchmarks/codec.py $(PIANO) --kind piano --seconds 10 --json out/codec-piano.json)
	$(if $(SPEECH),$(BIN)/python benchmarks/acoustic.py $(SPEECH) --bundle speech --json out/acoustic-speech.json)
	$(if $(PIANO),$(BIN)/python benchmarks/acoustic.py $(PIANO) --bundle piano --kind piano --json out/acoustic-piano.json)
	$(BIN)/python benchmarks/codec_page.py $(or $(SPEECH),$(PIANO)) --out out/codec-page.html
	$(BIN)/python benchmarks/codec_speed.py --json out/codec-speed.json
	$(BIN)/python benchmarks/decode.py --json out/decode.json
	$(BIN)/python benchmarks/tokenise.py --workers 1 --workers 2 --ray 2 --json out/tokenise.json

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.base: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[train,pretrained,vad,cluster,dev]"
	@touch $@ .venv/.base

clean:
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
