"""`python -m sonde.bench SIDE WORDS…`: measure one side and print its figures as JSON."""

import sys

from sonde.bench.processes import main

main(*sys.argv[1:])
