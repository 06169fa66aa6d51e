"""What griffe does not see when it reads sonde without running it: the options of a verb, and `A, B = 1, 2`."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from typing import Any

import griffe

from sonde.options import Options, read_info


class Reading(griffe.Extension):
    """Gives each function under `@takes(Kind)` the fields of `Kind`, and a module the names assigned as a tuple."""

    def on_module_members(self, *, node: ast.AST | griffe.ObjectNode, mod: griffe.Module, **_: Any) -> None:
        """Add the names of each assignment to a tuple, with the docstring below it."""
        body = node.body if isinstance(node, ast.Module) else []
        for place, line in enumerate(body):
            if not (isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Tuple)):
                continue
            text = ast.get_docstring(ast.Module(body[place + 1 : place + 2], []))
            values = line.value.elts if isinstance(line.value, ast.Tuple) else []
            for target, value in zip(line.targets[0].elts, values, strict=False):
                name = ast.unparse(target)
                about = griffe.Docstring(text, lineno=line.lineno) if text else None
                attribute = griffe.Attribute(name, value=ast.unparse(value), lineno=line.lineno, docstring=about)
                mod.set_member(name, attribute)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Add the options to the signature of each verb, and to its documentation as its other arguments."""
        for function, decorator in _list_taking(pkg):
            read = pkg.modules_collection[decorator.arguments[0].canonical_path]
            kind = getattr(import_module(read.module.canonical_path), read.name)
            _add_options(
                function, kind, {about.name: read.all_members[about.name].annotation for about in fields(kind)}
            )


def _list_taking(owner: griffe.Module) -> Iterator[tuple[griffe.Function, griffe.ExprCall]]:
    for member in owner.members.values():
        if isinstance(member, griffe.Module):
            yield from _list_taking(member)
        elif isinstance(member, griffe.Function):
            for decorator in member.decorators:
                if isinstance(decorator.value, griffe.ExprCall) and str(decorator.value.function) == "takes":
                    yield member, decorator.value


def _add_options(function: griffe.Function, kind: type[Options], annotations: dict[str, griffe.Expr]) -> None:
    whole = function.parameters["options"]
    whole.default, whole.annotation = "None", griffe.ExprBinOp(whole.annotation, "|", "None")
    keyword = griffe.ParameterKind.keyword_only
    for about in fields(kind):
        annotation = annotations[about.name]
        function.parameters.add(
            griffe.Parameter(about.name, annotation=annotation, kind=keyword, default=repr(about.default))
        )
    assert function.docstring is not None
    lines = [f"    {about.name}: {read_info(about).help}" for about in fields(kind)]
    head, mark, tail = function.docstring.value.partition("Raises:\n")
    function.docstring.value = "\n".join([head.rstrip(), "", "Keyword Args:", *lines, "", mark + tail])
