"""`python -m breakeven`: this stage alone, without the front door."""

import sys

from contracts.errors import exit_code_of
from breakeven.cli import cli

if __name__ == "__main__":
    sys.exit(exit_code_of(cli))
