"""The memory of a job does not grow with the number of its images."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_bench import write
from small_captures import picture
from small_networks import saved
from small_recipes import FEW

pytestmark = [pytest.mark.faults, pytest.mark.slow]

COUNT = 1000
MOST = 16.0
"""MB by which a line through the memory may rise over all images; that of one picture kept for each would be 20 MB."""

JOBS = {
    "predict": "sonde.predict(photos, model, out=out, save=('png16',), progress=note)",
    "label": "sonde.label(model, photos, out, confidence=False, progress=note)",
    "eval": "sonde.evaluate(model, 'metric', root, watch=lambda *seen: note(len(found) + 1, 0))",
    "train": "sonde.train(few, words, listener=lambda step, steps, numbers: note(step, steps))",
}
"""Verb -> its call; `note(done, total)` measures."""

SCRIPT = """
import json, os, sys
import sonde
from pathlib import Path

job, model, photos, root, out, few, *words = sys.argv[1:]
page, found = os.sysconf("SC_PAGE_SIZE"), []

def note(done, total, *more):
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
    found.append((done, resident / 2**20))

eval(job)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A thousand photographs of 40x56, a thousand captures, and a small network."""
    root = tmp_path_factory.mktemp("memory")
    (root / "photos").mkdir()
    for index in range(COUNT):
        Image.fromarray(picture(index, 40, 56)).save(root / "photos" / f"p{index:04}.png")
    write(root / "bench", COUNT)
    saved("glpn", root / "network")
    return root


@pytest.mark.skipif(sys.platform != "linux", reason="memory in use is read from /proc")
@pytest.mark.parametrize("verb", JOBS)
def test_memory_is_flat(inputs, tmp_path, verb):
    words = [
        f"data.root={inputs / 'bench'}",
        f"output_dir={tmp_path / 'run'}",
        "model.input_size=[32,32]",
        f"model.name={inputs / 'network'}",
        "data.cache=null",
        f"train.max_steps={COUNT}",
        "train.per_device_train_batch_size=1",
        "train.gradient_accumulation_steps=1",
        "train.eval_steps=10000",
        "train.save_steps=10000",
        "train.logging_steps=100",
    ]
    places = (inputs / "network", inputs / "photos", inputs / "bench", tmp_path / "out", FEW)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, JOBS[verb], *map(str, places), *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.array(json.loads(done.stdout.splitlines()[-1]))
    warm = found[found[:, 0] >= COUNT // 5]  # allocators settle first
    assert len(warm) >= 10 and warm[-1, 0] >= 0.9 * COUNT
    rise = np.polyfit(warm[:, 0], warm[:, 1], 1)[0] * COUNT
    assert rise < MOST, f"memory rises by {rise:.1f} MB over {COUNT} images"
