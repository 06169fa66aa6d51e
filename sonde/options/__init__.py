"""The options of each verb, written once: one frozen type for each verb.

A field gives the keyword of the Python function, the option of the command line, its help, its default and its bounds.
`takes` puts the fields into a Python function's signature and documentation; `cli/options.py` puts them into a
command. Neither torch nor NumPy is imported here, so that `sonde --help` answers at once.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from textwrap import fill
from typing import Any, TypeVar, get_args

from sonde.spelling import nearest, shorten

PRECISIONS = ("fp32", "bf16", "fp16")
"""What a network computes in."""
LOADING = ("max_depth", "device", "precision", "runtime")
"""Options of a model that is given by name."""

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K", bound="Options")


@dataclass(frozen=True)
class OptionInfo:
    """What a field says about its option, besides its name, type and default."""

    help: str
    """One or two sentences, for the Python documentation and for `--help`."""
    flags: Sequence[str] = ()
    """Its spellings on the command line; none: `--name`, and for a bool `--name/--no-name`."""
    least: int | float | None = None
    """The smallest value allowed."""
    above: int | float | None = None
    """A bound that the value must exceed."""
    most: int | float | None = None
    """The largest value allowed: what no machine can take is refused before work."""
    one_of: Collection[str] = ()
    """The values allowed; none: any."""
    parse: Callable[[str], object] | None = None
    """Turns text into the value; raises ValueError with one sentence."""
    shown: str | None = None
    """The text that parses to the default, for `--help`."""
    python_only: bool = False
    """Not on the command line."""


def option(
    default: T,
    help: str,
    *,
    flags: Sequence[str] = (),
    least: int | float | None = None,
    above: int | float | None = None,
    most: int | float | None = None,
    one_of: Collection[str] = (),
    parse: Callable[[str], object] | None = None,
    shown: str | None = None,
    python_only: bool = False,
) -> T:
    """A field of an `Options` type; `OptionInfo` describes the arguments."""
    info = OptionInfo(help, flags, least, above, most, one_of, parse, shown, python_only)
    return field(default=default, metadata={"option": info})


def max_depth_option() -> Any:
    """The field `max_depth`, which every verb that loads a model has."""
    # A dataclass's field stands where its value will: no one type says both.
    flags = ("--max-depth", "--max_depth")
    return option(None, "Metres at which a GLPDepth .ckpt ends, which its file does not say.", flags=flags)


def device_option() -> Any:
    """The field `device`, of every verb that runs a network."""
    # As in `max_depth_option`.
    return option("auto", "cpu, cuda, cuda:1 or mps; auto takes the fastest that is present.")


def precision_option(default: str = "auto", more: str = "auto is bf16 on a CUDA device and fp32 elsewhere.") -> Any:
    """The field `precision`, of every verb that runs a network."""
    # As in `max_depth_option`.
    return option(default, f"fp32, bf16 or fp16 of the network's arithmetic; {more}", one_of=(*PRECISIONS, "auto"))


def exact_precision_option() -> Any:
    """The field `precision`, of verbs whose numbers are to be the same on every device."""
    # As in `max_depth_option`.
    return option(
        None,
        "fp32, bf16 or fp16 of the network's arithmetic; by default fp32, and of an exported file its own.",
        one_of=(*PRECISIONS, "auto"),
    )


def runtime_option() -> Any:
    """The field `runtime`, of every verb that asks a model for depth alone."""
    # As in `max_depth_option`.
    return option(
        "auto",
        "What runs the network: torch, onnx or openvino; auto takes the fastest that has it on this device.",
        one_of=("auto", "torch", "onnx", "openvino"),
    )


def parse_batch_size(text: str) -> int | None:
    """The whole number in a text; None for `auto`.

    Raises:
        ValueError: neither of them.
    """
    if text.strip() == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"batch_size={shorten(text)!r}: expected a whole number of images, or auto.") from None


def batch_size_option(what: str = "images") -> Any:
    """The field `batch_size`, of verbs that ask a network for one picture after another; None means auto.

    Args:
        what: of one shape is asked for together.
    """
    # As in `max_depth_option`.
    return option(
        None,
        f"Most {what} of one shape, one after the other, that the network sees at once; auto is 1 on a CPU, where it "
        "is fastest, and on a GPU what its memory holds, up to 16.",
        parse=parse_batch_size,
        shown="auto",
        least=1,
        most=4096,
    )


def check_option() -> Any:
    """The field `check`, of every verb that scores captures."""
    # As in `max_depth_option`.
    return option(True, "Look at a few captures first, and refuse what is certainly wrong with them.")


@dataclass(frozen=True)
class Options:
    """The base of every verb's options."""

    def __post_init__(self) -> None:
        """Parse text and check every value.

        Raises:
            ValueError: a text that cannot be parsed, or a value outside its bounds; one sentence that names the option.
        """
        for about in fields(self):
            value = _parse(about, getattr(self, about.name))
            _check(about, value)
            object.__setattr__(self, about.name, value)  # the only way to set a field of a frozen type

    def change(self: K, **settings: object) -> K:
        """The same options with some other values; text is parsed as on the command line."""
        known = {about.name: about for about in fields(self)}
        parsed = {name: _parse(known[name], value) if name in known else value for name, value in settings.items()}
        return replace(self, **parsed)

    def convert(self, kind: type[K]) -> K:
        """These options as another type: it takes the fields that both have, and its defaults for the others."""
        common = {about.name for about in fields(self)} & {about.name for about in fields(kind)}
        return kind(**{name: getattr(self, name) for name in common})


def refuse_loading(options: Options, name: str) -> None:
    """Refuse options that say how a model is loaded, where the model called `name` is loaded already.

    Raises:
        ValueError: one of LOADING is not at its default.
    """
    for about in fields(options):
        value = getattr(options, about.name)
        if about.name in LOADING and value != about.default:
            given = f"{value:g}" if isinstance(value, float) else value
            raise ValueError(f"{about.name}={given} is for a model given by name; {name} is already loaded.")


def read_info(about: Field[Any]) -> OptionInfo:
    """What a field of an `Options` type says about its option."""
    return about.metadata["option"]


def takes(kind: type[Options]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Let a function with the keyword `options` take the fields of `kind` as keywords too.

    `label(model, images, out, size="network")` and `label(model, images, out, options=LabelOptions(size="network"))`
    then mean the same. Where both are given, keywords replace the values of `options`. The signature and the
    documentation of the function show the fields.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        own = [name for name in signature(function).parameters if name != "options"]
        known = [*own, *(about.name for about in fields(kind))]

        @wraps(function)
        def call(*args: object, options: Options | None = None, **keywords: object) -> R:
            for name in keywords:
                if name not in known:
                    raise TypeError(f"{function.__name__} has no option {name!r}: {nearest(name, known)}")
            passed = {name: value for name, value in keywords.items() if name in own}
            settings = {name: value for name, value in keywords.items() if name not in own}
            return function(*args, options=(options or kind()).change(**settings), **passed)

        setattr(call, "__signature__", _expand_signature(function, kind))  # noqa: B010
        call.__doc__ = _expand_docstring(function.__doc__ or "", kind)
        return call

    return decorate


def _parse(about: Field[Any], value: object) -> object:
    """A value as its field's type; what is no text is left as it is."""
    if not isinstance(value, str):
        return value
    parse = read_info(about).parse
    if parse is not None:
        return parse(value)
    is_path = Path in (about.type, *get_args(about.type))  # `Path`, or `Path | None`
    return Path(value) if is_path else value


def _check(about: Field[Any], value: object) -> None:
    info = read_info(about)
    if value is None:
        return
    if info.one_of and value not in info.one_of:
        raise ValueError(f"{about.name}={shorten(value)!r}: {nearest(str(value), info.one_of)}")
    if isinstance(value, int | float):
        given = f"{value:g}" if isinstance(value, float) else shorten(value, 40)
        # `not >=` and not `<`: every comparison with NaN is false, so that NaN is refused too.
        if info.least is not None and not value >= info.least:
            raise ValueError(f"{about.name}={given}: expected {info.least:g} or more.")
        if info.above is not None and not value > info.above:
            raise ValueError(f"{about.name}={given}: expected more than {info.above:g}.")
        if info.most is not None and not value <= info.most:
            raise ValueError(f"{about.name}={given}: expected at most {info.most:,}.")


def _expand_signature(function: Callable[..., object], kind: type[Options]) -> Signature:
    """The signature of `function` and, after it, the fields of `kind`."""
    before = signature(function)
    parameters = dict(before.parameters)
    parameters["options"] = parameters["options"].replace(default=None, annotation=kind | None)
    for about in fields(kind):
        parameters[about.name] = Parameter(
            about.name, Parameter.KEYWORD_ONLY, default=about.default, annotation=about.type
        )
    return before.replace(parameters=list(parameters.values()))


def _expand_docstring(text: str, kind: type[Options]) -> str:
    """A docstring with a line for each field, before `Raises:` or at the end."""
    lines = [
        fill(f"{about.name}: {read_info(about).help}", 120, initial_indent=" " * 8, subsequent_indent=" " * 12)
        for about in fields(kind)
    ]
    section = "\n".join(["    Options:", *lines])
    head, mark, tail = text.partition("    Raises:")
    return f"{head.rstrip()}\n\n{section}\n\n{mark or '    '}{tail}"
