"""What is known of each public set: what it is for, who may use it, how large it is, where its files lie.

The facts are data, in registry.yaml and by_hand.yaml beside this file. A checksum stands there only where the publisher
or several who fetched the file agree on it; anything else that could not be confirmed is told in `doubt`, and shown to
the user.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_validator, model_validator

from sonde.spelling import nearest

REGISTRY = Path(__file__).with_name("registry.yaml")
"""The packaged facts."""
BY_HAND = "by_hand.yaml"
"""Beside a registry: how a person fetches the sets behind forms."""

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Suffixes of what can be unpacked here."""

RANGE = re.compile(r"(.*?)(\d+)\.\.(\d+)")
"""ai_001_001..010 stands for ai_001_001, ai_001_002, … ai_001_010."""


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Source(Strict):
    """One file to fetch."""

    url: str
    """http or https."""
    path: str = ""
    """Where it goes, below the set's folder; the last part of the URL by default."""
    bytes: int | None = Field(default=None, ge=0)
    """Its exact size; None where it is not known."""
    md5: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    md5_url: str | None = None
    """Where the publisher keeps the file's MD5."""
    extract: bool = False
    """Whether it is an archive to unpack."""
    into: str = ""
    """Folder it is unpacked into, below the set's; its own name without suffix by default."""

    @model_validator(mode="before")
    @classmethod
    def _names(cls, fields: dict[str, Any]) -> dict[str, Any]:
        path = fields.get("path") or unquote(urlsplit(fields.get("url", "")).path).rpartition("/")[2]
        return fields | {"path": path, "into": fields.get("into") or without_suffix(path)}

    @field_validator("url", "md5_url")
    @classmethod
    def _web(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{url} is no http or https address")
        return url

    @field_validator("path", "into")
    @classmethod
    def _inside(cls, path: str) -> str:
        if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{path!r} is no path below the set's folder")
        return path

    @model_validator(mode="after")
    def _archive(self) -> "Source":
        if self.extract and not self.path.lower().endswith(ARCHIVES):
            raise ValueError(f"{self.path} is none of {', '.join(ARCHIVES)}, so it cannot be unpacked")
        return self


class UrlPattern(Strict):
    """Files whose addresses follow one pattern: `{name}` in any text is filled from `each`, in every combination."""

    url: str
    each: dict[str, list[str]] = {}
    """Values by name; a value may be a range such as 000..499."""
    path: str = ""
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None
    md5_url: str | None = None
    extract: bool = False
    into: str = ""

    def sources(self) -> list[Source]:
        """The files themselves.

        Raises:
            ValueError: a size or checksum for more than one file, or a name that `each` does not have.
        """
        values = [[word for text in words for word in _spread(text)] for words in self.each.values()]
        combinations = [dict(zip(self.each, words, strict=True)) for words in product(*values)]
        if len(combinations) > 1 and (self.bytes, self.md5, self.sha256) != (None, None, None):
            raise ValueError(f"{self.url} stands for {len(combinations)} files: they cannot share a size or checksum.")
        fields = self.model_dump(exclude={"each"})
        try:
            return [Source.model_validate({key: _fill(text, words) for key, text in fields.items()})
                    for words in combinations]  # fmt: skip
        except KeyError as missing:
            raise ValueError(f"{self.url}: `each` has no {missing}.") from None


class Brought(Strict):
    """One kind of file that a person fetches by hand, told by its path, and what becomes of it."""

    like: list[str]
    """Patterns that are all found in the file's path, `FOLDER/…/NAME` from the folder the user gives, in lower case; or
    in that path and the folder that all files of an archive share."""
    what: str
    """What it is, for people."""
    do: Literal["keep", "unpack", "links", "skip", "unclear", "open"]
    """`keep` it as it is; `unpack` it; `links`: fetch what the list in it names; `skip`: it is not needed; `unclear`:
    it could be one of several, so it is refused with `what`. `open`, an archive of archives, is told by its content."""
    into: str = ""
    """Below the set's folder; {stem} is the archive's name, other names are groups of the patterns."""
    example: str | None = None
    """A file's name, as its publisher has it."""
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @field_validator("like")
    @classmethod
    def _patterns(cls, like: list[str]) -> list[str]:
        for pattern in like:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no pattern: {error}") from None
        return like

    def place(self, path: str, within: str) -> str | None:
        """The folder such a file goes into, `.` for the set's own; None where it is none of them.

        Args:
            path: of the file, with `/`, from the folder that was given.
            within: the same, and the folder that all files of the archive share.
        """
        found = [re.search(pattern, path.lower()) or re.search(pattern, within.lower()) for pattern in self.like]
        if not all(found):
            return None
        groups = {
            name: re.sub("[_ ]", "-", text or "") for one in found if one for name, text in one.groupdict().items()
        }
        stem = without_suffix(PurePosixPath(path).name)
        return str(PurePosixPath(self.into.format(**{"stem": stem} | groups)))


class Entry(Strict):
    """All that is known of one set."""

    name: str
    title: str
    role: Literal["synthetic", "unlabeled", "evaluation", "driving"]
    purpose: str
    """What it is for here."""
    homepage: str
    licence: str
    """Short id: an SPDX one where there is one; `none-stated` where the publisher says nothing."""
    allows: str
    """What that means, in one sentence."""
    size_bytes: int | None
    """Of all files; None where nobody says."""
    size_is: Literal["published", "measured"] | None
    """`published` by those who made the set, rounded as they round; `measured` by those who fetched it."""
    images: int
    """As published."""
    training_images: int | None = None
    """Those of its published training part, where it has one."""
    format: str | None = None
    """Name in `sonde.datasets.DATASETS` that reads it; None where no reader does."""
    access: Literal["open", "form"] = "open"
    """`form`: a person must ask for it, log in, or click through a drive."""
    steps: list[str] = []
    """For a form: what to do, one sentence after the other."""
    brings: list[Brought] = []
    """For a form: what its files are called, and what becomes of each; the first that fits counts."""
    given: list[str] = []
    """For a form: an example of what the command is then given."""
    roots: list[str] = [""]
    """Folders below the set's that a reader takes each by itself."""
    then: str | None = None
    """What is left to do once the files are there."""
    doubt: str | None = None
    """What could not be confirmed."""
    files: list[UrlPattern] = []

    @computed_field
    @property
    def unverified(self) -> bool:
        """Whether there is a doubt."""
        return self.doubt is not None

    @model_validator(mode="after")
    def _reachable(self) -> "Entry":
        by_hand = (bool(self.steps), bool(self.brings), bool(self.given), not self.files)
        if by_hand != (self.access == "form",) * 4:
            raise ValueError("a form wants steps, brings and given, and no files; anything else wants files alone")
        sources = self.sources()
        if len({source.path for source in sources}) < len(sources):
            raise ValueError("two files go by one path")
        return self

    def sources(self) -> list[Source]:
        """Every file, in order."""
        return [source for batch in self.files for source in batch.sources()]

    @property
    def by_hand(self) -> str:
        """The one sentence for a set that only a person can fetch."""
        return (
            f"{self.title} cannot be fetched by a program: visit {self.homepage} and fetch its files, then give them by"
            f" `sonde data download {self.name} --from FILES`; the command without --from says each step."
        )

    def guide(self) -> dict[str, Any]:
        """What a person does to have the set, step by step, and the command that then goes on."""
        return {
            "set": f"{self.name}: {self.title}",
            "licence": f"{self.licence}: {self.allows}",
            "unverified": self.doubt or "nothing",
            "steps": [f"{number}. {step}" for number, step in enumerate(self.steps, 1)],
            "files": [f"{kind.example}: {kind.what}" for kind in self.brings if kind.example],
            "then": " ".join(["sonde data download", self.name, *(f"--from {given}" for given in self.given)]),
        }

    def next(self, root: str) -> str:
        """The command that takes a folder of the set."""
        if self.role == "unlabeled":
            return f"sonde label MODEL {root} labels"
        if self.role == "driving":
            return f"sonde train metric-driving data.root={root}"
        return f"sonde data check {root} --format {self.format}"


def load(path: Path = REGISTRY) -> dict[str, Entry]:
    """The entries of a registry, by name, with what by_hand.yaml beside it adds.

    Raises:
        ValueError: the file is no registry; the message names the entry and the key.
    """
    beside = path.with_name(BY_HAND)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        by_hand = yaml.safe_load(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
        return {name: Entry.model_validate({"name": name, **fields, **by_hand.get(name, {})})
                for name, fields in entries.items()}  # fmt: skip
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no registry of sets: {' '.join(str(error).split())}") from None


@cache
def known() -> Mapping[str, Entry]:
    """The packaged registry."""
    return load()


def find(name: str, registry: Mapping[str, Entry] | None = None) -> Entry:
    """The entry of a name; case and `_` for `-` do not matter.

    Raises:
        ValueError: no such set; the message names the nearest one.
    """
    entries = known() if registry is None else registry
    folded = {_folded(key): entry for key, entry in entries.items()}
    if _folded(name) not in folded:
        raise ValueError(f"No data set {name!r} in the registry; {nearest(name, list(entries))}")
    return folded[_folded(name)]


def licence_of(set_name: str) -> str | None:
    """The licence id of a registered set, `hypersim` -> `CC-BY-SA-3.0`; None for a set that is not registered."""
    by_name = {_folded(name): entry.licence for name, entry in known().items()}
    return by_name.get(_folded(set_name))


def manifest(registry: Mapping[str, Entry] | None = None) -> str:
    """The registry as one JSON document for other programs; patterns of files are kept, with their count."""
    entries = known() if registry is None else registry
    document = {name: _described(entry) for name, entry in sorted(entries.items())}
    return json.dumps({"sets": document}, indent=1, ensure_ascii=False) + "\n"


def without_suffix(path: str) -> str:
    """`train` for train.tar.gz."""
    for suffix in sorted(ARCHIVES, key=len, reverse=True):
        if path.lower().endswith(suffix):
            return path[: -len(suffix)]
    return path


def _described(entry: Entry) -> dict[str, Any]:
    fields = entry.model_dump(mode="json", exclude={"files"})
    files = [{"count": len(batch.sources()), **batch.model_dump(exclude_defaults=True)} for batch in entry.files]
    checks = {"bytes": None, "md5": None, "sha256": None}  # null says that nobody has published it
    return fields | {"files": [checks | file for file in files]}


def _spread(text: str) -> list[str]:
    if not (match := RANGE.fullmatch(text)):
        return [text]
    start, first, last = match.groups()
    return [f"{start}{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def _fill(text: Any, words: dict[str, str]) -> Any:
    return text.format(**words) if isinstance(text, str) else text


def _folded(name: str) -> str:
    return name.strip().lower().replace("_", "-")
