"""The names that GLPDepth and its forks use for recipe fields and data sets."""

from pathlib import Path
from typing import NamedTuple

from sonde.renamed import keep_old_names

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
"""GLPDepth's command-line name -> the field or fields that it sets. Valid in overrides and as a top-level key."""

LOG_DIR = "./logs"
"""GLPDepth's default of `log_dir`: the run folder when an override uses one of these names and none sets the folder."""


class Layout(NamedTuple):
    """A data set that GLPDepth or its forks train on."""

    format: str
    """The name of its layout in DATASETS."""
    folder: str
    """The folder name that they append to `data_path`."""
    whole: str
    """The layout that `sonde eval` reads."""
    protocol: str
    """The protocol that scores it as GLPDepth's test does."""
    recipe: str
    """The packaged recipe that trains on it."""


SETS: dict[str, Layout] = {
    "DrivingStereo": Layout("driving_stereo", "DrivingStereo", "driving_stereo", "driving-stereo", "metric-driving"),
    "kitti": Layout("kitti_kb", "kitti", "kitti", "kitti-garg-kb", "metric-driving"),
    "nyudepthv2": Layout("nyu", "nyu_depth_v2", "nyu", "nyu-eigen", "metric-indoor"),
}
"""GLPDepth's set names. `kitti` is also a name in DATASETS; as a value of `dataset` it means GLPDepth's set."""

RANGES = {"kitti": 80, "nyu": 10}
"""Word in the name of a GLPDepth checkpoint -> largest depth it was trained for, in metres."""


def read_max_depth(name: str) -> int | None:
    """Largest depth of a GLPDepth checkpoint, in metres, by its file name; None if that has neither word, or both."""
    found = [metres for word, metres in RANGES.items() if word in Path(name).name.lower()]
    return found[0] if len(found) == 1 else None


def expand_word(word: str, value: str) -> list[str]:
    """The fields that a word sets, each as key=value. `dataset` accepts GLPDepth's set names and names in DATASETS."""
    if word == "dataset" and value in SETS:
        value = SETS[value].format
    return [f"{field}={value}" for field in SHORT.get(word, (word,))]


keep_old_names(__name__, {"range_of": "read_max_depth", "spelled": "expand_word"})
