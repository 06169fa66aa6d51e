"""`python -m sonde` is `sonde`."""

from sonde.cli import main

main()
