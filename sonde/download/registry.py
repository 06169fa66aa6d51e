"""Facts about each public set: its purpose, its licence, its size, and the addresses of its files.

The facts are data, in registry.yaml and by_hand.yaml beside this file. They contain a checksum only if its publisher,
or several independent downloads, confirm it. `doubt` states everything else that could not be confirmed, and the user
sees it.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Literal, TypedDict
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict, Field, computed_field, field_validator, model_validator

from sonde import files
from sonde.renamed import keep_old_names
from sonde.spelling import nearest, shorten
from sonde.strict import Strict

REGISTRY = Path(__file__).with_name("registry.yaml")
"""The packaged registry."""
REMEDY = "expected a name and the facts of each set, as in sonde/download/registry.yaml"
BY_HAND = "by_hand.yaml"
"""File beside a registry: how a person downloads the sets behind forms."""

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Suffixes of archives that sonde unpacks."""

RANGE = re.compile(r"(.*?)(\d+)\.\.(\d+)")
"""ai_001_001..010 stands for ai_001_001, ai_001_002, … ai_001_010."""


class RegistryItem(Strict):
    """A part of the registry. Unknown keys are errors, and the fields are frozen."""

    model_config = ConfigDict(frozen=True)


class Source(RegistryItem):
    """One file to download."""

    url: str
    """http or https."""
    path: str = ""
    """Its place below the set's folder; the last part of the URL by default."""
    bytes: int | None = Field(default=None, ge=0)
    """Its exact size; None if it is unknown."""
    md5: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    md5_url: str | None = None
    """Address of the file's MD5 at the publisher."""
    extract: bool = False
    """Whether it is an archive to unpack."""
    into: str = ""
    """Folder into which it is unpacked, below the set's; its own name without suffix by default."""

    @property
    def published(self) -> dict[str, str]:
        """Digests that the publisher states, by algorithm."""
        return _name_digests(self.md5, self.sha256)

    @model_validator(mode="before")
    @classmethod
    def _fill_names(cls, fields: dict[str, object]) -> dict[str, object]:
        own_name = unquote(urlsplit(str(fields.get("url", ""))).path).rpartition("/")[2]
        path = fields.get("path") or own_name
        return fields | {"path": path, "into": fields.get("into") or without_suffix(str(path))}

    @field_validator("url", "md5_url")
    @classmethod
    def _check_web(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{url} is not an http or https address")
        return url

    @field_validator("path", "into")
    @classmethod
    def _check_inside(cls, path: str) -> str:
        if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{path!r} is not a path below the set's folder")
        return path

    @model_validator(mode="after")
    def _check_archive(self) -> "Source":
        if self.extract and not self.path.lower().endswith(ARCHIVES):
            raise ValueError(f"{self.path} is none of {', '.join(ARCHIVES)}, so it cannot be unpacked")
        return self


class UrlPattern(RegistryItem):
    """Files whose addresses follow one pattern: `{name}` in any text is replaced from `each`, in every combination."""

    url: str
    each: dict[str, list[str]] = Field(default={})
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
            raise ValueError(
                f"{self.url} stands for {len(combinations)} files: they cannot share a size or a checksum."
            )
        fields: dict[str, object] = self.model_dump(exclude={"each"})
        try:
            return [Source.model_validate(_fill(fields, words)) for words in combinations]
        except KeyError as missing:
            raise ValueError(f"{self.url}: `each` has no {missing}.") from None


class BroughtFile(RegistryItem):
    """One kind of file that a person downloads, recognised by its path; and what sonde does with it."""

    like: list[str]
    """Patterns that must all match the file's path in lower case, `FOLDER/…/NAME` from the folder that the user gives;
    or that path followed by the common folder of an archive's files."""
    what: str
    """A description for people."""
    do: Literal["keep", "unpack", "links", "skip", "unclear", "open"]
    """`keep` it as it is; `unpack` it; `links`: download the files that its list names; `skip`: it is not needed;
    `unclear`: it could be one of several, so it is refused with `what`. `open`: an archive of archives, recognised by
    its content."""
    into: str = ""
    """Place below the set's folder; {stem} is the name of the archive, other names are groups of the patterns."""
    example: str | None = None
    """The publisher's name of such a file."""
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @field_validator("like")
    @classmethod
    def _check_patterns(cls, like: list[str]) -> list[str]:
        for pattern in like:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return like

    @property
    def published(self) -> dict[str, str]:
        """Digests that the publisher states, by algorithm."""
        return _name_digests(self.md5, self.sha256)

    def place(self, path: str, within: str) -> str | None:
        """The folder of such a file, `.` for the set's own; None if the file is of another kind.

        Args:
            path: path of the file, with `/`, from the folder that the user gives.
            within: the same, followed by the common folder of the archive's files.
        """
        groups: dict[str, str] = {}
        for pattern in self.like:
            match = re.search(pattern, path.lower()) or re.search(pattern, within.lower())
            if match is None:
                return None
            groups |= {name: re.sub("[_ ]", "-", text or "") for name, text in match.groupdict().items()}
        stem = without_suffix(PurePosixPath(path).name)
        return str(PurePosixPath(self.into.format(**{"stem": stem} | groups)))


class Guide(TypedDict):
    """How a person gets a set behind a form."""

    set: str
    licence: str
    unverified: str
    steps: list[str]
    files: list[str]
    then: str
    """The command that continues with the downloaded files."""


class Entry(RegistryItem):
    """All facts about one set."""

    name: str
    title: str
    role: Literal["synthetic", "unlabeled", "evaluation", "driving"]
    purpose: str
    """Its purpose in sonde."""
    homepage: str
    licence: str
    """Short id: an SPDX id if there is one; `none-stated` if the publisher states no licence."""
    allows: str
    """What the licence allows, in one sentence."""
    size_bytes: int | None
    """Size of all files; None if it is unknown."""
    size_is: Literal["published", "measured"] | None
    """`published`: stated by the authors, rounded as they round; `measured`: from a download."""
    images: int
    """Number of images, as published."""
    training_images: int | None = None
    """Number of images in the published training part, if there is one."""
    format: str | None = None
    """Name in `sonde.datasets.DATASETS` that reads it; None if there is no reader."""
    access: Literal["open", "form"] = "open"
    """`form`: a person must request it, log in, or download it in a browser."""
    steps: list[str] = Field(default=[])
    """For a form: what to do, one sentence per step."""
    brings: list[BroughtFile] = Field(default=[])
    """For a form: the kinds of its files, and what sonde does with each; the first match counts."""
    given: list[str] = Field(default=[])
    """For a form: an example of the arguments of --from."""
    roots: list[str] = Field(default=[""])
    """Folders below the set's that are each a root for a reader."""
    then: str | None = None
    """What remains to do after the download."""
    doubt: str | None = None
    """What could not be confirmed."""
    files: list[UrlPattern] = Field(default=[])

    @computed_field
    @property
    def unverified(self) -> bool:
        """Whether there is a doubt."""
        return self.doubt is not None

    @model_validator(mode="after")
    def _check_access(self) -> "Entry":
        by_hand = (bool(self.steps), bool(self.brings), bool(self.given), not self.files)
        if by_hand != (self.access == "form",) * 4:
            raise ValueError("a form needs steps, brings and given, and no files; any other set needs only files")
        sources = self.sources()
        if len({source.path for source in sources}) < len(sources):
            raise ValueError("two files have the same path")
        return self

    def sources(self) -> list[Source]:
        """Every file, in order."""
        return [source for batch in self.files for source in batch.sources()]

    @property
    def by_hand(self) -> str:
        """The message for a set that only a person can download."""
        return (
            f"{self.title} cannot be downloaded by a program: download its files from {self.homepage}, then run `sonde "
            f"data download {self.name} --from FILES`. Without --from, the command prints each step."
        )

    def guide(self) -> Guide:
        """What a person does to get the set, step by step, and the command that continues."""
        return {
            "set": f"{self.name}: {self.title}",
            "licence": f"{self.licence}: {self.allows}",
            "unverified": self.doubt or "nothing",
            "steps": [f"{number}. {step}" for number, step in enumerate(self.steps, 1)],
            "files": [f"{kind.example}: {kind.what}" for kind in self.brings if kind.example],
            "then": " ".join(["sonde data download", self.name, *(f"--from {given}" for given in self.given)]),
        }

    def next(self, root: str) -> str:
        """The command that uses a folder of the set."""
        if self.role == "unlabeled":
            return f"sonde label MODEL {root} labels"
        if self.role == "driving":
            return f"sonde train metric-driving data.root={root}"
        return f"sonde data check {root} --format {self.format}"


def load(path: Path = REGISTRY) -> dict[str, Entry]:
    """The entries of a registry, by name, with the fields of the by_hand.yaml beside it.

    Raises:
        ValueError: the file is not a registry; the message names the entry and the key.
    """
    beside = path.with_name(BY_HAND)
    entries = files.read_yaml(path, REMEDY)
    by_hand = files.read_yaml(beside, REMEDY) if beside.is_file() else {}
    try:
        documents = {name: {"name": name, **fields, **by_hand.get(name, {})} for name, fields in entries.items()}
        return {name: Entry.model_validate(document) for name, document in documents.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a registry of sets: {shorten(' '.join(str(error).split()))}") from None


@cache
def load_known() -> Mapping[str, Entry]:
    """The packaged registry."""
    return load()


def find(name: str, registry: Mapping[str, Entry] | None = None) -> Entry:
    """The entry with a name; case and `_` for `-` do not matter.

    Raises:
        ValueError: no such set; the message names the nearest one.
    """
    entries = load_known() if registry is None else registry
    folded = {_fold_name(key): entry for key, entry in entries.items()}
    if _fold_name(name) not in folded:
        raise ValueError(f"No data set {name!r} in the registry; {nearest(name, list(entries))}")
    return folded[_fold_name(name)]


def find_licence(set_name: str) -> str | None:
    """The licence id of a registered set, `hypersim` -> `CC-BY-SA-3.0`; None for a set that is not registered."""
    by_name = {_fold_name(name): entry.licence for name, entry in load_known().items()}
    return by_name.get(_fold_name(set_name))


def format_manifest(registry: Mapping[str, Entry] | None = None) -> str:
    """The registry as one JSON document for other programs. Patterns of files are not expanded but counted."""
    entries = load_known() if registry is None else registry
    document = {name: _describe(entry) for name, entry in sorted(entries.items())}
    return json.dumps({"sets": document}, indent=1, ensure_ascii=False) + "\n"


def without_suffix(path: str) -> str:
    """`train` for train.tar.gz."""
    for suffix in sorted(ARCHIVES, key=len, reverse=True):
        if path.lower().endswith(suffix):
            return path[: -len(suffix)]
    return path


def _describe(entry: Entry) -> dict[str, object]:
    fields: dict[str, object] = entry.model_dump(mode="json", exclude={"files"})
    files = [{"count": len(batch.sources()), **batch.model_dump(exclude_defaults=True)} for batch in entry.files]
    checks = {"bytes": None, "md5": None, "sha256": None}  # null: nobody has published it
    return fields | {"files": [checks | file for file in files]}


def _spread(text: str) -> list[str]:
    """The values that a range such as 000..499 stands for, or the text itself."""
    match = RANGE.fullmatch(text)
    if match is None:
        return [text]
    start, first, last = match.groups()
    return [f"{start}{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def _fill(fields: dict[str, object], words: dict[str, str]) -> dict[str, object]:
    """The fields with every `{name}` in a text replaced."""
    return {key: value.format(**words) if isinstance(value, str) else value for key, value in fields.items()}


def _name_digests(md5: str | None, sha256: str | None) -> dict[str, str]:
    """Algorithm -> digest, for those that are known."""
    digests = {"md5": md5, "sha256": sha256}
    return {name: digest for name, digest in digests.items() if digest}


def _fold_name(name: str) -> str:
    return name.strip().lower().replace("_", "-")


keep_old_names(
    __name__,
    {"Brought": "BroughtFile", "known": "load_known", "licence_of": "find_licence", "manifest": "format_manifest"},
)
