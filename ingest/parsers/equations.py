"""Equations of Office documents (ECMA-376 part 1, 22.1) as LaTeX, by MarkItDown."""

from __future__ import annotations

from xml.etree import ElementTree

from lxml import etree

from ingest.parsers import opc


def latex(equation: opc.Element) -> str:
    """An `oMath` element in LaTeX between `$`; its bare letters where it has a construct that MarkItDown lacks."""
    # Takes .5 s and 40 MiB to import (it loads a model runtime): only in the process that meets an equation.
    from markitdown.converter_utils.docx.math.omml import oMath2Latex  # noqa: PLC0415

    source = ElementTree.fromstring(etree.tostring(equation, with_tail=False))
    try:
        text = oMath2Latex(source).latex  # type: ignore[no-untyped-call]
    except (NotImplementedError, LookupError, AttributeError, TypeError):
        text = "".join(piece.text or "" for piece in equation.iter() if opc.local(piece) == "t")
    return f"${text.strip()}$" if text.strip() else ""
