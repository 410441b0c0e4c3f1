"""`python -m bench`: this stage alone, without the front door."""

import sys

from bench.cli import cli
from contracts.errors import exit_code_of

if __name__ == "__main__":
    sys.exit(exit_code_of(cli))
