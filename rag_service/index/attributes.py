"""What filters ask of chunks, side by side in small arrays: some seven bytes a chunk, and no object.

The base's chunks have them in `attributes.npz`, those of the tail in memory. A filter becomes a mask over either.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_service.ports import Attributes
from rag_service.types import PassageFilter

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Column:
    """Row r has `values[codes[r]]`; values are UTF-8, codes as small as they can be."""

    codes: NDArray[np.unsignedinteger[Any]]
    values: NDArray[np.bytes_]

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Column:
        numbers: dict[str, int] = {}
        codes = [numbers.setdefault(text, len(numbers)) for text in texts]
        return _column(codes, [text.encode() for text in numbers])

    @classmethod
    def merged(cls, parts: Sequence[_Column]) -> _Column:
        """The parts one after another, no value twice: for columns of few values."""
        numbers: dict[bytes, int] = {}
        codes = [
            np.array([numbers.setdefault(value, len(numbers)) for value in part.values.tolist()], dtype=np.int64)[
                part.codes
            ]
            for part in parts
        ]
        return _column(np.concatenate(codes), [*numbers])

    @classmethod
    def appended(cls, parts: Sequence[_Column]) -> _Column:
        """The parts one after another, with the values of each: for columns of many, of which two parts share few."""
        starts = np.cumsum([0, *(len(part.values) for part in parts[:-1])])
        codes = [part.codes.astype(np.int64) + start for part, start in zip(parts, starts.tolist(), strict=True)]
        return _column(np.concatenate(codes), np.concatenate([part.values for part in parts]))

    def value(self, row: int) -> str:
        value: bytes = self.values[self.codes[row]]
        return value.decode()

    def is_one_of(self, wanted: Iterable[str]) -> Mask:
        """By row."""
        values = np.array([text.encode() for text in wanted], dtype=np.bytes_)
        found: Mask = np.isin(self.values, values)[self.codes]
        return found


@dataclass(frozen=True, slots=True)
class AttributeRows:
    """Those of a base, in the order of its ids, or of a tail. `created_at` is by document, as `documents.values` are;
    a document can stand among these more than once."""

    documents: _Column
    languages: _Column
    media_types: _Column
    created_at: NDArray[np.float64]

    @classmethod
    def empty(cls) -> AttributeRows:
        return cls.of([])

    @classmethod
    def of(cls, rows: Sequence[Attributes]) -> AttributeRows:
        created_at = {row.document_id: row.created_at for row in rows}
        return cls(
            _Column.of([row.document_id for row in rows]),
            _Column.of([row.language for row in rows]),
            _Column.of([row.media_type for row in rows]),
            np.array([*created_at.values()], dtype=np.float64),
        )

    @classmethod
    def joined(cls, parts: Sequence[AttributeRows]) -> AttributeRows:
        """The rows of the parts, at least one, one after another."""
        return cls(
            _Column.appended([part.documents for part in parts]),
            _Column.merged([part.languages for part in parts]),
            _Column.merged([part.media_types for part in parts]),
            np.concatenate([part.created_at for part in parts]),
        )

    @classmethod
    def deserialised(cls, serialised: bytes) -> AttributeRows:
        """The bytes must have been verified."""
        with np.load(io.BytesIO(serialised), allow_pickle=False) as file:
            documents, languages, media_types = (
                _Column(file[f"{name}.codes"], file[f"{name}.values"]) for name in _COLUMNS
            )
            return cls(documents, languages, media_types, file["created_at"])

    def serialised(self) -> bytes:
        arrays: dict[str, NDArray[Any]] = {"created_at": self.created_at}
        for name in _COLUMNS:
            column: _Column = getattr(self, name)
            arrays |= {f"{name}.codes": column.codes, f"{name}.values": column.values}
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        return file.getvalue()

    def __len__(self) -> int:
        return len(self.documents.codes)

    def of_row(self, row: int) -> Attributes:
        created_at = float(self.created_at[self.documents.codes[row]])
        document_id, language, media_type = (
            column.value(row) for column in (self.documents, self.languages, self.media_types)
        )
        return Attributes(document_id, language, media_type, created_at)

    def let_through(self, only: PassageFilter) -> Mask:
        """By row whether all that `only` asks for is so; a new array."""
        mask = np.ones(len(self), dtype=np.bool_)
        of_column = (
            (self.documents, only.document_ids), (self.languages, only.languages), (self.media_types, only.media_types),
        )  # fmt: skip
        for column, wanted in of_column:
            if wanted is not None:
                mask &= column.is_one_of(wanted)
        for in_time in self._in_time(only):
            mask &= in_time[self.documents.codes]
        return mask

    def _in_time(self, only: PassageFilter) -> Iterable[Mask]:
        """By document."""
        if only.created_from is not None:
            yield self.created_at >= only.created_from
        if only.created_before is not None:
            yield self.created_at < only.created_before


_COLUMNS = ("documents", "languages", "media_types")


def _column(codes: Any, values: Any) -> _Column:
    """An array of no bytes has no length of its own: `S1` stands in for it."""
    smallest = np.min_scalar_type(max(0, len(values) - 1))
    return _Column(np.asarray(codes, dtype=smallest), np.asarray(values, dtype=np.bytes_))
