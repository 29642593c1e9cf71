"""The command line as ``python -m headway``."""

from headway.cli.main import main

if __name__ == "__main__":
    main(prog_name="headway")
