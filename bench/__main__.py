"""`python -m bench`: this stage alone, without the front door."""

import sys

from contracts.errors import exit_code_of
from bench.cli import cli

if __name__ == "__main__":
    sys.exit(exit_code_of(cli))
