"""What a chart of an Office document says: its title, and its series as a table. Reads ECMA-376 part 1, 21.2."""

from __future__ import annotations

from collections.abc import Iterator

from openpyxl.utils.datetime import WINDOWS_EPOCH

from ingest.parsers import number_format, opc


def title(chart: opc.Element) -> str:
    """The chart's own title; "" where it has none or shows its only series' name."""
    found = next((element for element in chart.iter() if opc.local(element) == "title"), None)
    return "" if found is None else " ".join("".join(_texts(found, "t")).split())


def rows(chart: opc.Element) -> list[list[str]]:
    """A row a category under a header of series' names, as the chart's cached values have them."""
    series = [element for element in chart.iter() if opc.local(element) == "ser"]
    names = ["".join(_texts(_child(one, "tx"), "v")) for one in series]
    values = [_points(_child(one, "val") or _child(one, "yVal")) for one in series]
    labels: dict[int, str] = {}
    for one in series:
        labels |= _points(_child(one, "cat") or _child(one, "xVal"))
    places = sorted({place for points in (labels, *values) for place in points})
    body = [[labels.get(place, ""), *(points.get(place, "") for points in values)] for place in places]
    return [["", *names], *body] if body else []


def _child(element: opc.Element, name: str) -> list[opc.Element]:
    return [child for child in element if opc.local(child) == name]


def _texts(elements: opc.Element, name: str) -> Iterator[str]:
    for element in elements:
        for piece in element.iter():
            if opc.local(piece) == name:
                yield piece.text or ""


def _points(elements: list[opc.Element]) -> dict[int, str]:
    """Values by their index; of categories in several levels, the innermost before the outer ones."""
    points: dict[int, str] = {}
    for element in elements:
        for point in element.iter():
            if opc.local(point) == "pt":
                place = int(point.get("idx", "0"))
                text = _shown("".join(_texts([point], "v")))
                points[place] = f"{points[place]} {text}" if place in points else text
    return points


def _shown(text: str) -> str:
    """A number without the digits that binary fractions leave behind: 4.4000000000000004."""
    try:
        return number_format.shown(float(text), "General", WINDOWS_EPOCH)
    except ValueError:
        return text
