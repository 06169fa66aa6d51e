"""Renders the page's three examples; from the top folder: python tools/page/examples.py."""

import json
from pathlib import Path

from PIL import Image

from sonde.scenes import render

PAGE = Path(__file__).parents[2] / "sonde" / "serving" / "page"
EXAMPLES = {
    "bench": ("A wheel on a bench", "bench", 4, 0),
    "room": ("A bedroom", "handheld", 1, 0),
    "park": ("People in a park", "outdoor", 1, 0),
}
"""Name → title, family, seed and number of the scene."""


def main() -> None:
    """Write the pictures and their list."""
    for name, (_, family, seed, index) in EXAMPLES.items():
        image = render(family, seed, index, height=480, width=640).image
        Image.fromarray(image).save(PAGE / f"example-{name}.jpg", quality=90, optimize=True)
    listed = [
        {"name": name, "title": title, "url": f"page/example-{name}.jpg"} for name, (title, *_) in EXAMPLES.items()
    ]
    (PAGE / "examples.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    main()
