"""The bases of the documents that sonde reads: those that people write, and those that sonde wrote itself."""

from pydantic import BaseModel, ConfigDict

EXACT = ConfigDict(strict=True, extra="allow")
"""For a TypedDict of a document that sonde wrote, as `@with_config(EXACT)`: no number is made of a text or of true, and
keys of another version of sonde stay."""


class Strict(BaseModel):
    """A document, or a part of one. An unknown key is an error; the docstring of a field is its help."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
