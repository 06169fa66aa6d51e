"""What GLPDepth and its forks call the fields of a recipe, and the sets."""

from pathlib import Path
from typing import NamedTuple

SHORT: dict[str, tuple[str, ...]] = {
    "dataset": ("data.format",),
    "data_path": ("data.root",),
    "ckpt_dir": ("model.name",),
    "log_dir": ("output_dir",),
    "epochs": ("train.num_train_epochs",),
    "batch_size": ("train.per_device_train_batch_size",),
    "lr": ("train.learning_rate",),
    "workers": ("train.dataloader_num_workers",),
    "crop_h": ("model.input_size[0]",),
    "crop_w": ("model.input_size[1]",),
    "max_depth": ("model.max_depth", "data.max_depth"),
    "max_depth_eval": ("data.max_depth_eval",),
}
"""What GLPDepth's command line calls a field, or several: taken in overrides and at the top of a recipe."""

LOG_DIR = "./logs"
"""Its default of `log_dir`: where a run goes that is asked for in these words and not told where."""


class Layout(NamedTuple):
    """A set that GLPDepth or its forks train on."""

    format: str
    """Ours: a name in DATASETS."""
    folder: str
    """What they append to `data_path`."""
    whole: str
    """The layout that `sonde eval` reads."""
    protocol: str
    """What scores it as their test does."""
    recipe: str
    """The packaged recipe that trains on it."""


SETS: dict[str, Layout] = {
    "DrivingStereo": Layout("driving_stereo", "DrivingStereo", "driving_stereo", "driving-stereo", "metric-driving"),
    "kitti": Layout("kitti_kb", "kitti", "kitti", "kitti-garg-kb", "metric-driving"),
    "nyudepthv2": Layout("nyu", "nyu_depth_v2", "nyu", "nyu-eigen", "metric-indoor"),
}
"""Their names of the sets; `kitti` is a layout of ours too, and as `dataset` it is theirs."""

RANGES = {"kitti": 80, "nyu": 10}
"""What a GLPDepth checkpoint that has the word in its name was trained for: metres at which it ends."""


def range_of(name: str) -> int | None:
    """Metres at which a GLPDepth checkpoint ends by its file's name; None where it has neither word, or both."""
    said = [metres for word, metres in RANGES.items() if word in Path(name).name.lower()]
    return said[0] if len(said) == 1 else None


def spelled(word: str, value: str) -> list[str]:
    """The fields that a word sets, each as key=value; `dataset` takes their names of the sets and ours."""
    if word == "dataset" and value in SETS:
        value = SETS[value].format
    return [f"{field}={value}" for field in SHORT.get(word, (word,))]
