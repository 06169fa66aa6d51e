"""The performance table as a page, with the machine that it was measured on."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from sonde.bench.rows import BenchRow, BenchTable

VERSIONS = ("torch", "transformers", "peft", "onnxruntime", "openvino")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")
"""What of a processor decides the speed of fp32 and int8, as Linux spells it."""

HEAD = """\
# Speed

```
make bench
```

That command writes this page; `sonde bench --only ROW` measures one row alone. Each row compares sonde with the plain
alternative in the same run; both sides alternate, and the figures are medians. Above 1, sonde is faster. Ratios carry
over to other machines better.

**Machine.** {machine}
"""
TAIL = """\
**What each row measures.**

{rows}

**With a GPU.** {gpu}
"""
NOT_MEASURED = (
    "Labels per second of ViT-L in bf16, and a training step against the official repository's code: not measured, "
    "since no GPU was at hand."
)


def describe_machine() -> str:
    """One paragraph: processor, its instructions for matrices, cores, memory, system and versions."""
    processor, flags = _read_processor()
    known = [flag for flag in FLAGS if flag in flags]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return (
        f"{processor} ({', '.join(known) or 'no instructions of note'}), {os.cpu_count()} cores, {memory:.0f} GB, "
        f"{platform.system()}. Python {platform.python_version()}, {versions}."
    )


def _read_processor() -> tuple[str, set[str]]:
    """The name of the processor and its flags; on other systems than Linux what Python knows."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or platform.machine(), set()
    pairs = [line.partition(":") for line in path.read_text().splitlines()]
    found = {name.strip(): value.strip() for name, _, value in reversed(pairs)}
    return found.get("model name", platform.machine()), set(found.get("flags", "").split())


def render_page(table: BenchTable, about: Mapping[str, str]) -> str:
    """The page in Markdown.

    Args:
        table: the rows that were measured.
        about: name of a row → what it measures.
    """
    lines = ["| row | sonde | plain | unit | ratio | memory, MB | |", "|---|---|---|---|---|---|---|"]
    lines += [_render_row(name, row) for name, row in table.rows.items()]
    words = "\n".join(f"- `{name}`: {' '.join(about[name].split())}" for name in table.rows)
    gpu = NOT_MEASURED if not torch.cuda.is_available() else "See the rows above."
    parts = [HEAD.format(machine=describe_machine()), "\n".join(lines) + "\n", TAIL.format(rows=words, gpu=gpu)]
    return "\n".join(parts)


def _render_row(name: str, row: BenchRow) -> str:
    memory = "" if row.memory_mb is None else " / ".join(f"{row.memory_mb[side]:.0f}" for side in ("sonde", "plain"))
    figures = [f"{key} {value:.3g}" for key, value in (row.figures or {}).items()]
    notes = "; ".join([*([row.note] if row.note else []), *figures])
    return f"| `{name}` | {row.sonde:.3g} | {row.plain:.3g} | {row.unit} | {row.ratio:.2f} | {memory} | {notes} |"
