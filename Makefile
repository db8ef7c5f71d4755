V := .venv
PY ?= python3
export PATH := $(CURDIR)/$(V)/bin:$(PATH)
MEMBERS := $(wildcard packages/*)

$(V)/.ok: bootstrap.lock requirements.lock $(addsuffix /pyproject.toml,$(MEMBERS))
	$(PY) -m venv $(V)
	$(V)/bin/pip install -q --require-hashes -r bootstrap.lock
	$(V)/bin/uv pip install -q --python $(V) --require-hashes -r requirements.lock
	$(V)/bin/uv pip install -q --python $(V) --no-deps --no-build-isolation $(addprefix -e ,$(MEMBERS))
	touch $@
