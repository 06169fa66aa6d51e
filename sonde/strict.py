"""The base of every document that people write and sonde reads: recipes, the registry of data sets, dataset.json."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A document, or a part of one. An unknown key is an error; the docstring of a field is its help."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
