"""Links out of docs/ lead somewhere on the code host. On the site pictures come along; other such links are text."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PICTURE = re.compile(r"(!\[[^\]]*\]\()\.\./([^)#\s]+)\)")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./[^)\s]+\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Copy the pictures outside docs/ that a page shows."""
    root = Path(config.docs_dir).parent
    for page in files.documentation_pages():
        for picture in {path for _, path in PICTURE.findall(page.content_string)}:
            name = f"assets/{Path(picture).name}"
            if files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, content=(root / picture).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show the copies, and keep only the text of a link to a file that the site does not hold."""
    markdown = PICTURE.sub(lambda found: f"{found[1]}assets/{Path(found[2]).name})", markdown)
    return LINK.sub(r"\1", markdown)
