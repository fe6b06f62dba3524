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

test:
	OMP_NUM_THREADS=1 pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

nightly:
	OMP_NUM_THREADS=1 pytest --numprocesses auto --maxprocesses 4 --dist loadgroup -m nightly
