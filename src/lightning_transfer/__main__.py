"""`python -m lightning_transfer` is `lightning-transfer`."""

from lightning_transfer.cli.main import main

if __name__ == "__main__":
    main()
