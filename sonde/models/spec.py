"""What a network's numbers mean and what it wants to see: the contents of `sonde.json`. No torch is imported here."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from sonde.encoding import EncodingFields, from_dict
from sonde.files import check_exactly
from sonde.spelling import nearest, shorten
from sonde.types import SPACES, Space
from sonde.units import UNITS

SPEC = "sonde.json"
"""The file of a model folder that holds a `ModelSpec`."""
BASE, BESIDE = "base", "./base"
"""The folder beside an adapter that holds its base network, and its name in `sonde.json` and for PEFT."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Mean and standard deviation of each colour that a network expects; PLAIN leaves RGB in [0, 1]."""
LARGEST_SIDE = 1 << 14
"""Pixels of a side of a network's input that a document may ask for."""
LARGEST_AREA = 1 << 25
"""Pixels of a network's input that a document may ask for."""
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
Step = Annotated[int, Field(ge=1, le=1 << 11)]
Positive = Annotated[float, Field(gt=0)]
HEADS = ("decoder", "pixels")
LONGEST = 8
"""The largest aspect ratio of an image that is resized by its short side; beyond it the input would fill the memory."""


@dataclass(frozen=True)
class ModelSpec:
    """What a network's numbers mean and what it wants to see; stored beside the weights as `sonde.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    space: Space
    short_side: Side | None
    """Images are resized to this short side, aspect kept; None keeps the image's own pixels and pads them."""
    multiple: Step
    """Height and width of the network's input are multiples of this."""
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[Positive, Positive, Positive] = IMAGENET[1]
    input_size: tuple[Side, Side] | None = None
    """A fixed (height, width) of the network's input, whatever the image's aspect."""
    encoding: EncodingFields | None = None
    """Name and range (m) of the encoding that the network regresses; None: its output is the quantity itself."""
    scale: Positive = 1.0
    """Factor on the network's output: the end of its range in metres where a transformers config cannot hold it, since
    those hold whole metres only."""
    canonical_focal: Positive | None = None
    """Focal length (pixels at the network's input) of the canonical camera (Metric3D, arXiv 2307.10984): the network
    predicts depth for that camera, and the image's depth is its output times f / canonical_focal."""
    background: Positive | None = None
    """For a fixed camera: metres that stand for the bench in the network's output. Depth is the output plus the
    bench's own depth at that pixel, minus this value. None: the output is the depth."""
    head: str = "decoder"
    """What predicts: the network's own `decoder`, or a head of `pixels` over its encoder's features."""
    unit: str = "m"
    """The unit of its training data, restored on output."""
    base: str | None = None
    """For an adapter: the name its base is loaded by; `./base` is the folder beside it."""
    base_max_depth: Annotated[float | int, Field(gt=0)] | None = None
    """For an adapter whose base is a weight file: the `max_depth` it is loaded with, if the file does not hold one."""
    fingerprint: str | None = None
    """For an adapter: `fingerprint` of the base it was trained on."""

    @property
    def pads(self) -> bool:
        """Whether images keep their pixels and are padded, rather than resized."""
        return self.short_side is None and self.input_size is None

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) of the network's input for an image of this size, padding included.

        Raises:
            ValueError: an image too elongated to be resized by its short side.
        """
        if self.input_size is not None:
            return self.input_size
        step = self.multiple
        if self.short_side is None:
            return -(-height // step) * step, -(-width // step) * step
        if max(height, width) > LONGEST * min(height, width):
            raise ValueError(
                f"The image is {width}x{height}, longer than {LONGEST} times its short side: expected at most that, "
                "because the network's input would fill the memory; cut the image into pieces."
            )
        scale = self.short_side / min(height, width)

        def fit(side: int) -> int:
            return max(step, round(side * scale / step) * step)

        return fit(height), fit(width)

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) of the image itself in the network's input, without padding."""
        return (height, width) if self.pads else self.network_size(height, width)


def spec_from_json(stored: object) -> ModelSpec:
    """The `ModelSpec` of a JSON document: that of `sonde.json`, or the entry `sonde` of a `config.json`.

    Raises:
        ValueError: no object, unknown or missing keys, or a space or an encoding that does not exist.
    """
    if not isinstance(stored, Mapping):
        raise ValueError(f"it holds a {type(stored).__name__} and no object")
    known = [field.name for field in fields(ModelSpec)]
    unknown = next((key for key in stored if key not in known), None)
    if unknown is not None:
        raise ValueError(f"it holds the unknown key {unknown!r}: {nearest(str(unknown), known)}")
    missing = [key for key in ("space", "short_side", "multiple") if key not in stored]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    _check(stored)
    spec = check_exactly(dict(stored), ModelSpec)
    if spec.input_size is not None and spec.input_size[0] * spec.input_size[1] > LARGEST_AREA:
        raise ValueError(f"its input_size {[*spec.input_size]} has more than {LARGEST_AREA:,} pixels")
    return spec


def _check(values: Mapping[str, Any]) -> None:
    """What the types do not say."""
    space, multiple, encoding = values["space"], values["multiple"], values.get("encoding")
    if space not in SPACES:
        raise ValueError(f"its space is {shorten(repr(space))}, expected one of {', '.join(SPACES)}")
    if not isinstance(multiple, int) or multiple < 1:
        raise ValueError(f"its multiple is {shorten(repr(multiple))}, expected a number of pixels such as 14 or 32")
    for key, known in (("unit", tuple(UNITS)), ("head", HEADS)):
        if values.get(key, known[0]) not in known:
            raise ValueError(f"its {key} is {shorten(repr(values[key]))}, expected one of {', '.join(known)}")
    if encoding is not None:
        from_dict(check_exactly(encoding, EncodingFields))
