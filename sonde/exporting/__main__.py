"""Write the GRAPH of a network's folder, a step of a release: `python -m sonde.exporting sonde/weights`."""

import sys
from pathlib import Path

from sonde.exporting import write_graph


def main() -> None:
    """Write FOLDER/model.onnx, and print how it answers beside torch."""
    if len(sys.argv) != 2:
        raise SystemExit("python -m sonde.exporting FOLDER: expected the folder of a network with model.safetensors.")
    try:
        table = write_graph(Path(sys.argv[1]))
    except ValueError as error:
        raise SystemExit(str(error)) from None
    for name, values in table.list_rows().items():
        print(name, *(f"{heading} {value}" for heading, value in values.items()), sep="; ")


if __name__ == "__main__":
    main()
