# Three words: `make demo` shows it working, `make test` proves it, `make check` keeps the code clean.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check web clean

demo: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo.sh demo

# Two files at a time, each on one thread: more threads than cores would wait for each other.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python hatch_build.py check

# The page in web/ → natural_video_llm/web_dist; installing does the same.
web: .venv/installed
	$(BIN)/python hatch_build.py

clean:
	rm -rf .venv demo web/node_modules natural_video_llm/web_dist

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
