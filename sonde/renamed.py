"""Old public names that still work for one version, each with one warning."""

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module

_WARNED: set[str] = set()


def warn_once(old: str, new: str) -> None:
    """Say once in this process that `old` is now called `new`."""
    if old not in _WARNED:
        _WARNED.add(old)
        warnings.warn(f"{old} is now called {new}; the old name ends with the next version.", FutureWarning, 3)


def aliases(module: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """A module's `__getattr__` that answers to old names.

    Args:
        module: the module's `__name__`.
        names: old name -> new name, dotted where it moved to another module: `sonde.tensors.Batch`.
    """

    def find(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = (names[name] if "." in names[name] else f"{module}.{names[name]}").rpartition(".")
        warn_once(f"{module}.{name}", f"{home}.{new}")
        return getattr(import_module(home), new)

    return find


def keep_old_names(module: str, names: Mapping[str, str]) -> None:
    """Let a module answer to old names, see `aliases`; set here, so that type checkers still know what it lacks."""
    setattr(sys.modules[module], "__getattr__", aliases(module, names))  # noqa: B010
