"""`python -m tokenhour.quantize`: this stage alone, without the front door."""

import sys

from tokenhour.contracts.errors import exit_code_of
from tokenhour.quantize.cli import cli

if __name__ == "__main__":
    sys.exit(exit_code_of(cli))
