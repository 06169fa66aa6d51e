"""Export to a `.ckpt` for GLPDepth's own scripts, with a card that states its depth range."""

import logging
from pathlib import Path

import torch

from sonde import architectures, models
from sonde.exporting.comparing import compare_raw, make_picture, merge_adapters, predict_raw
from sonde.models import DepthModel
from sonde.recipes.words import read_max_depth

log = logging.getLogger("sonde")


def to_glpdepth(model: DepthModel, folder: Path, licence: str) -> None:
    """Write a state_dict for GLPDepth's own scripts, read it back and compare; and a card that states its depth range.

    The given model itself is merged. The file is named after the folder, unless that name suggests another range.

    Raises:
        ValueError: such a file cannot hold the model.
    """
    reason = _find_obstacle(model)
    if reason is not None:
        raise ValueError(f"--to glpdepth cannot hold this model: {reason}.")
    metres = models.find_max_depth(model)
    assert metres is not None
    image = make_picture(*model.spec.network_size(480, 640))
    before = predict_raw(model, image)
    merge_adapters(model)
    named = read_max_depth(model.name) in (None, metres)
    path = folder / f"{model.name if named else 'model'}.ckpt"
    torch.save(architectures.to_glpdepth(model.network.state_dict()), path)
    again = models.load_network(path, max_depth=metres)
    after = predict_raw(again, image)
    compare_raw(before, after, model.name, folder)
    # The renaming must be exact, not only close: every tensor comes back bit for bit.
    written, own = again.network.state_dict(), model.network.state_dict()
    assert all(torch.equal(written[name], value) for name, value in own.items())
    architectures.use_glpdepth_norms(again.network)
    apart = float((predict_raw(again, image) - after).abs().max())
    (folder / "README.md").write_text(render_glpdepth_card(model, licence, path.name, apart))
    changes = architectures.describe_glpdepth_changes(model.network.config)
    if changes is not None:
        log.warning("%s: %s", path.name, changes)


def _find_obstacle(model: DepthModel) -> str | None:
    """Why GLPDepth's scripts would give another depth with these tensors, and what to do; None: no reason."""
    kind = model.network.config.model_type
    if kind != "glpn":
        return f"it is a {kind} network, and GLPDepth's code builds GLPN alone; try --to hf"
    spec, odd = model.spec, architectures.find_glpdepth_difference(model.network.config)
    found = (
        (spec.background is not None, f"it answers depth above the bench of a fixed camera; {KEPT}"),
        (spec.encoding is not None, f"it answers an encoding of depth, and GLPDepth a share of metres; {ANEW}"),
        (spec.space != "metric", f"it answers relative depth, and GLPDepth metres; {ANEW}"),
        ((spec.mean, spec.std) != models.PLAIN, f"it sees standardised images, and there RGB in [0, 1]; {ANEW}"),
        (spec.canonical_focal is not None, f"it answers for a canonical focal, and GLPDepth has no camera; {KEPT}"),
        (model.calibration is not None, "its metres come from a calibration: first `sonde calibrate MODEL --undo`"),
        (odd is not None, f"{odd}; {KEPT}"),
    )
    return next((reason for holds, reason in found if holds), None)


def render_glpdepth_card(model: DepthModel, licence: str, file: str, apart: float) -> str:
    """The card of a GLPDepth file: its licence, the depth range that every command needs, and what differs there.

    Args:
        model: the model that was written.
        licence: the licence of its weights.
        file: name of the file beside the card.
        apart: largest difference of GLPDepth's depth on a test picture, in metres.
    """
    metres, changes = models.find_max_depth(model), architectures.describe_glpdepth_changes(model.network.config)
    assert metres is not None
    notes, spec = [] if changes is None else [changes], model.spec
    if not spec.pads:
        size = "a short side of {}" if spec.input_size is None else "{1}x{0}"
        shown = size.format(*(spec.input_size or [spec.short_side]))
        notes.append(f"In sonde the network saw images resized to {shown} pixels; GLPDepth resizes none.")
    return GLPDEPTH_CARD.format(
        describe=model.describe(),
        licence=licence,
        name=model.name,
        file=file,
        metres=int(metres) if metres == int(metres) else metres,
        apart=apart,
        notes="".join(f" {note}" for note in notes),
    )


KEPT = "export it with --to hf, which keeps that"
ANEW = "export it with --to hf, or train model.size=b4 with model.max_depth=80 model.encoding=null"
GLPDEPTH_CARD = """\
---
license: {licence}
pipeline_tag: depth-estimation
---

# {name}

{describe}. `{file}` is a state_dict in GLPDepth's own names. It does not hold where depth ends, at {metres} m: every
command says it.

```sh
python ./code/test.py --ckpt_dir {file} --max_depth {metres} --dataset DrivingStereo --data_path ROOT --do_evaluate
sonde eval {file} --max_depth {metres} --on driving_stereo:ROOT@driving-stereo
sonde predict IMAGES -m {file} --max_depth {metres} -o OUT
```

The first line is GLPDepth's own. Its network sees RGB in [0, 1] at the image's own size, whose sides must be multiples
of 32. Its layer norms add another constant to the variance than transformers': on a test picture the answers differ by
up to {apart:.2g} m.{notes} Exported from sonde.
"""
