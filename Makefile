V := .venv
PY ?= python3
export PATH := $(CURDIR)/$(V)/bin:$(PATH)
MEMBERS := $(wildcard packages/*)
DOCS := .venvs/docs
RELEASE := .venvs/release
CORE := tests/neurons/test_surrogates_and_parameters.py tests/training/test_checkpoints.py tests/data/test_sets.py tests/viz/test_losses_on_planes.py

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 15

figures: $(V)/.ok ## make all figures at the quick scale: figures/quick/, checksums in figures/all
	snakemake figures/all

# At a toy scale, a job's start and its tracing take longer than its work, so one process has all jobs of an experiment. Snakemake
# makes the rest: the spikes, what reads them, the times of libraries, and the figures.
ONE_BY_ONE := $(filter-out throughput,$(patsubst experiments/%/config.yaml,%,$(wildcard experiments/*/config.yaml)))
tiny: export JAX_DISABLE_MOST_OPTIMIZATIONS := 1
tiny: $(V)/.ok ## make all figures at a toy scale, to see that everything works: figures/tiny/
	mkdir -p logs/tiny
	printf '%s\n' $(ONE_BY_ONE) | xargs -P 2 -I NAME workflow/logged logs/tiny/NAME.log python -m experiments.run NAME --scale tiny
	snakemake figures/all --config scale=tiny
	python -m experiments.pipeline.golden_tables

paper: $(V)/.ok ## make all figures at the publication's sizes, meant for a GPU: figures/paper/
	snakemake figures/all --config scale=paper $(if $(wildcard /dev/nvidia0),--workflow-profile profiles/gpu)

article: $(V)/.ok ## set the article with the results of the full scale that come with the repository: article.pdf
	snakemake article.pdf --config scale=full outdated=draw

verify: $(V)/.ok ## check results, figures and spikes against their records
	python -m experiments.pipeline verify

pack: $(V)/.ok ## put the results of the full scale into the archives that come with the repository
	python -m experiments.pipeline pack
	dvc add -q shipped/*.tar.xz
	dvc push -q shipped/*.tar.xz.dvc

cuda: $(V)/.ok requirements-cuda.lock ## add JAX's wheels for an NVIDIA GPU (Linux); then `make paper` runs there
	uv pip install -q --compile-bytecode --python $(V) --require-hashes -r requirements-cuda.lock

docs: $(DOCS)/.ok ## make an offline website of the pages: site/index.html
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build # not quiet: with -q, warnings are not counted, and a strict build never fails

PYTEST := pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(V)/.ok ## run the tests, in about six minutes on two cores
	$(PYTEST)

nightly: lowest newest docs $(RELEASE)/.ok ## what takes longer: other libraries, lowest and newest versions; run every week
	$(PYTEST) tests/nightly

MUTANTS := .venvs/mutants
COSMIC_RAY := uv tool run --quiet --from cosmic-ray==8.7.0
mutants: $(V)/.ok ## list small faults in the engine and the rules (PART=rules: only there) that no comparison with the oracle sees, in hours
	rm -rf $(MUTANTS) && git clone -q . $(MUTANTS)
	cd $(MUTANTS) && for part in $(or $(PART),engine rules); do sed "s#/engine#/$$part#; s#../../.venv#$(CURDIR)/$(V)#" tests/mutants.toml > $$part.toml \
	 && $(COSMIC_RAY) cosmic-ray init $$part.toml $$part.sqlite && $(COSMIC_RAY) cr-filter-operators $$part.sqlite $$part.toml \
	 && $(COSMIC_RAY) cosmic-ray baseline $$part.toml && $(COSMIC_RAY) cosmic-ray exec $$part.toml $$part.sqlite \
	 && $(COSMIC_RAY) cr-report --surviving-only --show-diff $$part.sqlite || exit 1; done

lowest: $(V)/.ok # the core tests with the lowest versions that the packages allow
	uv venv -q --clear --python $(V)/bin/python .venvs/$@
	$(call core_tests,lowest-direct)

newest: $(V)/.ok # and with the newest ones, if there is Python 3.12 or newer with them
	uv venv -q --clear --no-python-downloads --python '>=3.12' .venvs/$@ || uv venv -q --clear --python $(V)/bin/python .venvs/$@
	$(call core_tests,highest)

# With what an index has today: no lock file is read.
define core_tests
	uv pip install -q --compile-bytecode --python .venvs/$@ --resolution $(1) -e packages/slax-neurons[nir] -e packages/slax-rules \
	 -e packages/slax-data[digits] -e packages/slax-viz 'beartype>=0.22' 'hypothesis>=6.150' 'pytest>=9'
	uv pip list -q --python .venvs/$@ | grep -E '^(jax|flax|numpy|optax|orbax-checkpoint|scipy|matplotlib) '
	.venvs/$@/bin/pytest -q $(CORE)
endef

lint: $(V)/.ok $(RELEASE)/.ok ## check style, the workflow, the container, and who may import whom
	ruff check
	ruff format --check
	snakefmt --check Snakefile workflow
	snakemake --lint --dry-run
	$(RELEASE)/bin/hadolint containers/Dockerfile
	lint-imports
	mypy

claims: $(V)/.ok ## update docs/RESULTS.md, docs/REPLICATION.md, and tables and pictures of pages from the full scale
	snakemake figures/all --config scale=full outdated=draw
	cp figures/RESULTS.md figures/REPLICATION.md docs/
	python -m gallery.page_tables
	for name in accuracy rules_table step_response; do cp figures/full/$$name.png docs/; done
	python -m docs.readme_picture

lock: $(V)/.ok ## update the lock files after a change of dependencies
	uv lock
	uv export --format requirements-txt --no-emit-workspace --no-annotate --group dev -o requirements.lock
	uv export --format requirements-txt --no-emit-workspace --no-annotate --only-group cuda -o requirements-cuda.lock
	uv export --format requirements-txt --no-emit-workspace --no-annotate --only-group docs -o requirements-docs.lock
	uv export --format requirements-txt --no-emit-workspace --no-annotate --only-group release -o requirements-release.lock
	rm uv.lock

release-check: $(V)/.ok $(RELEASE)/.ok ## build the packages and import them from their wheels alone: dist/
	rm -rf dist
	SOURCE_DATE_EPOCH=1767225600 uv build -q --all-packages --no-build-isolation --out-dir dist
	$(RELEASE)/bin/twine check --strict dist/* && $(RELEASE)/bin/check-wheel-contents dist/*.whl
	uv run -q --isolated --no-project $$(printf -- '--with %s ' dist/*.whl) python -I -c 'import slax_data, slax_neurons, slax_rules, slax_viz'

clean: ## remove everything that the pipeline made, including the environments of the peers
	rm -rf figures results logs data/processed benchmarks/.envs .snakemake .programs

# The environment. `make PY=/usr/bin/python3 V=.venvs/other test` makes and uses a second one.
$(V)/.ok: bootstrap.lock requirements.lock $(addsuffix /pyproject.toml,$(MEMBERS))
	@$(PY) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, but $(PY) is "\
	 + sys.version.split()[0] + ". Name another one: make PY=python3.13 ...")'
	$(PY) -m venv $(V)
	$(V)/bin/pip install -q --require-hashes -r bootstrap.lock
	$(V)/bin/uv pip install -q --compile-bytecode --python $(V) --require-hashes -r requirements.lock
	$(V)/bin/uv pip install -q --compile-bytecode --python $(V) --no-deps --no-build-isolation $(addprefix -e ,$(MEMBERS))
	touch $@

# The environments of the site and of releases.
.venvs/docs/.ok .venvs/release/.ok: .venvs/%/.ok: requirements-%.lock | $(V)/.ok
	$(PY) -m venv --without-pip $(@D)
	$(V)/bin/uv pip install -q --compile-bytecode --python $(@D) --require-hashes -r $<
	touch $@

.PHONY: help figures article tiny paper verify pack cuda docs test nightly mutants lowest newest lint claims lock release-check clean
