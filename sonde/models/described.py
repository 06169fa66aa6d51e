"""What every model knows of itself and how it is asked, whatever runs its network. No torch is imported here."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as PILImage

from sonde.background import Background
from sonde.encoding import Encoding, from_dict
from sonde.models.calibration import Calibration
from sonde.models.inputs import as_array, as_camera
from sonde.models.placement import Placement
from sonde.models.spec import ModelSpec
from sonde.types import MatrixArray, Prediction, RGBArray, Space

Pixels = UInt8[np.ndarray, "b h w 3"]
"""Images of one size."""
Maps = Float[np.ndarray, "b h w"]


class DescribedModel:
    """A depth model: RGB of any size in, a `Prediction` of that size out.

    `DepthModel` runs its network in torch. `ExportedModel` runs a file without torch.
    """

    spec: ModelSpec
    name: str
    calibration: Calibration | None
    background: Background | None
    """The bench of a fixed camera, if the network predicts the difference from it (`spec.background`)."""
    placement: Placement
    """Where the network runs."""

    @property
    @abstractmethod
    def config_end(self) -> float | int | None:
        """Where the network's own config says that its output ends, before `spec.scale`; None where it does not."""

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """The number of the network's weights."""

    @abstractmethod
    def hash(self) -> str:
        """SHA-256 of the network: it tells answers of one model from those of another."""

    @abstractmethod
    def identify(self) -> str:
        """A short hash that a calibration keeps: it belongs to this network alone."""

    @abstractmethod
    def answer(self, pixels: Pixels, camera: MatrixArray | None = None) -> Maps:
        """Depth (b, h, w) float32 of images of one size, in the quantity that `space` names.

        Args:
            pixels: (b, h, w, 3).
            camera: of all these images, in their pixels.

        Raises:
            ValueError: an image that the model cannot read, or a camera that is missing.
            MemoryError: the device has too little memory for so many images.
        """

    @property
    def space(self) -> Space:
        """What the predictions claim."""
        return "metric" if self.calibration else self.spec.space

    @property
    def encoding(self) -> Encoding | None:
        """The encoding the network regresses, if any."""
        return from_dict(self.spec.encoding) if self.spec.encoding else None

    @property
    def max_depth(self) -> float | None:
        """Metres at which the output ends for every image; None for a relative model, or one without such an end."""
        if self.spec.encoding is not None:
            return None if self.spec.background is not None else float(self.spec.encoding["max_depth"])
        end = self.config_end
        return None if end is None or self.spec.space != "metric" else float(end * self.spec.scale)

    @property
    def camera_wanted(self) -> str:
        """The error message for a model with a canonical focal length and an image without intrinsics."""
        return (
            f"{self.name} answers for a focal length of {self.spec.canonical_focal:g} pixels "
            "(model.canonical_focal): metres need the image's own, as --intrinsics fx,fy,cx,cy or in the captures."
        )

    def predict(
        self, image: str | Path | PILImage.Image | RGBArray, intrinsics: MatrixArray | None = None
    ) -> Prediction:
        """Depth (h, w) float32 of one image: a path, a PIL image or an (h, w, 3) uint8 array, views included.

        `intrinsics` are for the image's pixels; a model with a canonical focal length requires them.

        Raises:
            ValueError: no such image, one too elongated for the model, intrinsics that are no (3, 3) matrix, or an
                answer that is not finite.
        """
        return self.predict_batch([as_array(image)], intrinsics)[0]

    def predict_batch(self, images: Sequence[RGBArray], intrinsics: MatrixArray | None = None) -> list[Prediction]:
        """The predictions of images of one size, by one pass of the network.

        Args:
            images: (h, w, 3) each.
            intrinsics: of all of them, in their pixels.

        Raises:
            ValueError: as `predict`, for any of the images; images of several sizes.
            MemoryError: the device has too little memory for so many images.
        """
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            raise ValueError(f"Expected images of one size, got {', '.join(map(str, sorted(shapes)))}.")
        if not images:
            return []
        camera = None if intrinsics is None else as_camera(intrinsics)
        pixels = images[0][None] if len(images) == 1 else np.stack(images)
        depth = self.answer(pixels, camera)
        check_answer(depth, self.name)
        return [Prediction(each, self.space, camera) for each in depth]

    def describe(self) -> str:
        """One line: name, parameters, space, range and calibration."""
        encoding = self.spec.encoding
        fixed = self.spec.background is not None
        span = ""
        if encoding is not None and not fixed:
            span = f", {encoding['min_depth']:.3f} to {encoding['max_depth']:.3f} m"
        bench = ", above the bench of a fixed camera" if fixed else ""
        calibrated = f", calibrated ({self.calibration.kind})" if self.calibration else ""
        return f"{self.name}: {self.parameter_count / 1e6:.1f} M parameters, {self.space}{span}{bench}{calibrated}"


def check_answer(answer: Maps, name: str) -> None:
    """Refuse an answer that holds NaN or an infinity: it is no depth.

    Args:
        answer: of any shape.
        name: of the model.

    Raises:
        ValueError: with the share of such values.
    """
    finite = np.isfinite(answer)
    if not finite.all():
        raise ValueError(explain_not_finite(int((~finite).sum()), finite.size, name))


def explain_not_finite(lost: int, of: int, name: str) -> str:
    """The sentence for an answer that holds NaN or an infinity at `lost` of `of` pixels."""
    return (
        f"The answer of {name} is not finite at {lost} of {of} pixels: its weights are damaged, or training has "
        "diverged; load another checkpoint."
    )
