"""`python -m tokenhour.breakeven`: this stage alone, without the front door."""

import sys

from tokenhour.breakeven.cli import cli
from tokenhour.contracts.errors import exit_code_of

if __name__ == "__main__":
    sys.exit(exit_code_of(cli))
