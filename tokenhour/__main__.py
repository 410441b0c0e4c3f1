"""`python -m tokenhour`: the command line."""

from tokenhour.cli import main

main()
