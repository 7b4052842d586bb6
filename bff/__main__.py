"""`python -m bff` is the command `bff`."""

from bff.cli import main

main()
