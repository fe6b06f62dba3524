.PHONY: check lint format types test nightly

check: lint types test

lint:
	ruff check .
	ruff format --check .

format:
	ruff check --fix .
	ruff format .

types:
	mypy

# One process more than CI's two cores, since some tests wait; by module, whose tests share costly runs.
test:
	OMP_NUM_THREADS=1 pytest --numprocesses 3 --dist loadscope --no-loadscope-reorder

nightly:
	OMP_NUM_THREADS=1 pytest --numprocesses 3 --dist loadscope -m nightly
