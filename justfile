# The ten words of this house. CI calls only these; each works after `just setup`.
# Without `just` on PATH: python3 -m venv .venv && .venv/bin/pip install -e '.[test,clients]' && .venv/bin/just --list

set shell := ["bash", "-euo", "pipefail", "-c"]

python := ".venv/bin/python"

# One BLAS thread per process: the tests already run in as many processes as this.
export OMP_NUM_THREADS := "1"
export OPENBLAS_NUM_THREADS := "1"
processes := "2"

[private]
default:
    @{{ just_executable() }} --justfile {{ justfile() }} --list --unsorted

# make .venv and install gemstead with everything the tests need
setup:
    python3 -m venv .venv
    {{ python }} -m pip install -q -e '.[test,clients]'
    @echo "ready: .venv/bin/gemstead, and .venv/bin/just check test"

# lint, format, types and the house rules
check: venv
    {{ python }} -m ruff check .
    {{ python }} -m ruff format --check .
    {{ python }} -m mypy
    {{ python }} -m pytest tests/house

# every test
test: venv native
    {{ python }} -m pytest -n {{ processes }}

# build the native kernels and test each against its scalar definition, under sanitizers, and by emulators
kernels: venv
    {{ python }} native/build.py test
    {{ python }} native/build.py test --sanitize address,undefined || [ $? = 77 ]
    {{ python }} native/build.py test --sanitize thread || [ $? = 77 ]
    {{ python }} native/build.py test --emulate avx512 || [ $? = 77 ]
    {{ python }} native/build.py test --arm || [ $? = 77 ]

# the same logits from every backend and from transformers
parity: venv
    {{ python }} -m pytest tests/parity -n {{ processes }}

# measure speed and append it to bench/history.csv; a model's path after it is measured too
bench *arguments: venv native
    {{ python }} bench/run.py {{ arguments }}

# run every code block of the documentation and every example
docs: venv
    {{ python }} -m pytest tests/docs -n {{ processes }}

# write the generated parts of the documentation again
gen: venv
    {{ python }} docs/generate.py

# write the golden files again; read the diff before you commit it
golden: venv
    GEMSTEAD_GOLDEN=write {{ python }} -m pytest tests/golden
    git diff --stat -- tests/golden

# repair what the linter and the formatter can repair
fix: venv
    {{ python }} -m ruff check --fix .
    {{ python }} -m ruff format .

[private]
native: venv
    @if command -v "${CXX:-c++}" >/dev/null; then {{ python }} native/build.py library; \
    else echo "no C++ compiler here: the native engine is not built, and its tests will say so"; fi

[private]
venv:
    @test -x {{ python }} || { echo "error: no .venv here; run 'just setup' first" >&2; exit 1; }
