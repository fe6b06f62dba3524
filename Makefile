.PHONY: check lint format types test

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
	pytest
