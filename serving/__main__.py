"""`python -m tokenhour.serving`: this stage alone, without the front door."""

import sys

from tokenhour.contracts.errors import exit_code_of
from tokenhour.serving.cli import cli

if __name__ == "__main__":
    sys.exit(exit_code_of(cli))
