"""Parts of an Office document and what relates them: ECMA-376 part 2 (Open Packaging Conventions)."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from dataclasses import dataclass
from typing import IO, Any

from lxml import etree

Element = Any
"""An lxml element; lxml brings no types."""

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = b"http://purl.oclc.org/ooxml/"
_STRICT_NAMESPACE = re.compile(re.escape(STRICT) + rb"(\w+)/")
_TRANSITIONAL_NAMESPACE = rb"http://schemas.openxmlformats.org/\1/2006/"


class Package:
    """An Office document that has passed `Container.inspect`."""

    def __init__(self, data: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(data))
        self._names = frozenset(self._archive.namelist())

    def holds(self, part: str) -> bool:
        return part in self._names

    def open(self, part: str) -> IO[bytes]:
        return self._archive.open(part)

    def xml(self, part: str) -> Element | None:
        """The root of an XML part; None where there is no such part."""
        if part not in self._names:
            return None
        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
        return etree.fromstring(self._archive.read(part), parser)

    def target(self, part: str, relation: str) -> str | None:
        """The part that `part` relates to under the id `relation`."""
        relations = self._relations(part)
        return next((told.target for told in relations if told.id == relation), None)

    def related(self, part: str, kind: str) -> list[str]:
        """The parts that `part` ("" for the package) relates to as `kind`, the last word of a relationship's type."""
        return [relation.target for relation in self._relations(part) if relation.kind == kind]

    def _relations(self, part: str) -> list[_Relation]:
        folder, name = posixpath.split(part)
        root = self.xml(posixpath.join(folder, "_rels", f"{name}.rels"))
        return [] if root is None else [_relation(one, folder) for one in root if one.get("TargetMode") != "External"]


@dataclass(frozen=True, slots=True)
class _Relation:
    id: str
    kind: str
    target: str


def _relation(element: Element, folder: str) -> _Relation:
    # An absolute target stands on its own: posixpath.join drops what is before it.
    target = posixpath.normpath(posixpath.join("/", folder, element.get("Target", ""))).lstrip("/")
    return _Relation(element.get("Id", ""), element.get("Type", "").rsplit("/", 1)[-1], target)


def local(element: Element) -> str:
    """An element's name without its namespace: "" for a comment or a processing instruction."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def child(element: Element, name: str) -> Element | None:
    """The first child of that local name."""
    return next((one for one in element if local(one) == name), None)


def value(element: Element, name: str) -> str | None:
    """An attribute in the namespace of word processing."""
    text: str | None = element.get(f"{{{WORD}}}{name}")
    return text


def child_value(element: Element, name: str) -> str | None:
    """The `w:val` of the first child of that local name."""
    found = child(element, name)
    return None if found is None else value(found, "val")


def is_on(element: Element, name: str) -> bool:
    """Whether a toggle among an element's children is there and on: `w:val` says so, or is left out."""
    found = child(element, name)
    return found is not None and value(found, "val") not in ("0", "false", "off")


def transitional(data: bytes) -> bytes:
    """A strict Office document as the transitional one that libraries know: they differ in their namespaces."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for part in old.infolist():
            text = old.read(part)
            if part.filename.endswith((".xml", ".rels")):
                text = _STRICT_NAMESPACE.sub(_TRANSITIONAL_NAMESPACE, text)
            new.writestr(part.filename, text)
    return stream.getvalue()
