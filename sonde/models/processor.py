"""What this machine's processor computes by itself, read without torch."""

import platform
import sys
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux lists what a processor can do."""
INT8 = {
    "avx512_vnni": "VNNI",
    "avx_vnni": "VNNI",
    "avx_vnni_int8": "VNNI",
    "amx_int8": "AMX",
    "asimddp": "dot products",
    "i8mm": "int8 matrix products",
}
"""Linux's name of an instruction for products of 8-bit numbers → ours."""


def list_int8_units() -> list[str] | None:
    """The processor's instructions for products of 8-bit numbers: empty where it has none; None where it is not known.

    Without such an instruction an int8 model is computed by others, and is hardly faster than fp32.
    """
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return ["dot products"]
    try:
        lines = CPUINFO.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    listed = next((line for line in lines if line.partition(":")[0].strip() in ("flags", "Features")), None)
    if listed is None:
        return None
    words = set(listed.partition(":")[2].split())
    return list(dict.fromkeys(ours for name, ours in INT8.items() if name in words))


def runs_int8() -> bool | None:
    """Whether the processor has instructions for products of 8-bit numbers; None where it is not known."""
    units = list_int8_units()
    return None if units is None else bool(units)


def describe_int8() -> str:
    """What an int8 model gains here, in a few words."""
    units = list_int8_units()
    if units is None:
        return "not known"
    return f"native ({', '.join(units)})" if units else "emulated: about as slow as fp32"
