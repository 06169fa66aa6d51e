"""`python -m sonde.download > docs/data_manifest.json`: the registry for other programs."""

import sys

from sonde.download import format_manifest

sys.stdout.write(format_manifest())
