"""Numbers of a claim that its passage does not have, or has of something else. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rag_service.answering.verification import units
from rag_service.answering.verification.alignment import Gap
from rag_service.answering.verification.quantities import Quantity, loose_values
from rag_service.answering.verification.tokens import Reading, Token, terms_of

_MOST_FIGURES = 40
"""Of a claim, that are looked for in another place: a sentence with more is a table, and hostile text costs no more."""
_SLOT_TOKENS = 2
"""A number stands in the place of another when no more than this many tokens differ there."""
_LEAD_TOKENS, _TRAIL_TOKENS = 14, 4
_CLEARLY_MORE, _CLEARLY_MORE_SHARE = 2, 0.4
"""Another number is meant when what leads up to it here shares so many more terms, at least, with what leads up to it
there, and so large a part of them."""
_IN_TURN = re.compile("分别|依次|respectively")
_STRICT = units.CALENDAR - {units.YEAR, units.CENTURY, units.DECADE}
"""A month is found only in a month; a year is also written without saying so."""


def absent(claim: Reading, inside: Sequence[Reading], everything: Sequence[Reading]) -> Iterator[str]:
    """Numbers that `inside`, the sentences the claim can be made from and the headings over them, do not have, or with
    another unit."""
    held = _quantities(inside)
    if not any(_is_year(quantity) for quantity in held):
        # A document often names its year once and for all.
        held += [quantity for quantity in _quantities(everything) if _is_year(quantity)]
    loose = loose_values("\n".join(reading.text for reading in inside))
    for token in claim.tokens:
        for quantity in token.quantities:
            if quantity.exact and (fault := _missing(quantity, token.text.strip(), held, loose)):
                yield fault


def _missing(quantity: Quantity, written: str, held: Sequence[Quantity], loose: set[float]) -> str | None:
    equal = [other for other in held if _are_equal(quantity, other)]
    named = [other for other in equal if other.unit]
    clashing = all(units.clash(other.unit, quantity.unit) for other in named)
    if quantity.unit in _STRICT:
        return f"{written} is not in the passage" if clashing else None
    if quantity.unit and named and clashing:
        return f"{written}: the passage has it in {named[0].unit}"
    return None if equal or quantity.value in loose else f"number {written} is not in the passage"


def exchanged(claim: Reading, held: Reading, places: Sequence[Gap]) -> Iterator[str]:
    """Numbers that the passage has, but of something else: what leads up to them here leads up to others there.

    `held` is of the claim's language and aligned with it but for `places`.
    """
    slots = {
        at: gap for gap in places for at in range(gap.a, gap.b) if max(gap.b - gap.a, gap.d - gap.c) <= _SLOT_TOKENS
    }
    figures = _figures(claim)
    counted = _figures(held, most=4 * _MOST_FIGURES)
    unsaid = [k for k in counted if not any(_agree(held.tokens[k], claim.tokens[at]) for at in figures)]
    for at in figures:
        token = claim.tokens[at]
        own = [k for k in counted if _agree(token, held.tokens[k])]
        rivals = [k for k in unsaid if _are_of_a_kind(token, held.tokens[k])]
        meant = _meant_instead(claim, at, held, own, rivals, slots.get(at))
        if meant is not None:
            yield f"number {token.text.strip()} where the passage says {held.tokens[meant].text.strip()}"


def _meant_instead(
    claim: Reading, at: int, held: Reading, own: Sequence[int], rivals: Sequence[int], slot: Gap | None
) -> int | None:
    """Which of the rivals is the one that the claim's number stands for, if it is not its own."""
    if not rivals or _told_by_what_follows(claim, at, held, own, rivals):
        return None
    about = _lead(claim, at)
    overlap = max((len(about & _lead(held, k)) for k in own), default=0)
    shared = {k: len(about & _lead(held, k)) for k in rivals}
    for k in rivals:
        if slot is not None and slot.c <= k < slot.d and shared[k] >= 3 * overlap:
            return k
    nearest = max(rivals, key=lambda k: shared[k])
    clearly = shared[nearest] >= overlap + max(_CLEARLY_MORE, _CLEARLY_MORE_SHARE * len(about))
    certain = _are_certainly_of_a_kind(claim.tokens[at], held.tokens[nearest])
    return nearest if clearly and certain and not _IN_TURN.search(held.text) else None


def elsewhere(claim: Reading, best: Reading, others: Sequence[Reading]) -> Iterator[str]:
    """Across languages: a number that only a further sentence has, where the best one has another of its kind."""
    mine = [claim.tokens[at] for at in _figures(claim)]
    near = [best.tokens[at] for at in _figures(best, most=4 * _MOST_FIGURES)]
    unsaid = [other for other in near if not any(_agree(other, token) for token in mine)]
    further = [token for reading in others for token in reading.tokens if token.quantities]
    for token in mine:
        rivals = [other for other in unsaid if _are_certainly_of_a_kind(token, other)]
        held = any(_agree(token, other) for other in further)
        if rivals and held and not any(_agree(token, other) for other in near):
            yield f"number {token.text.strip()} where the passage says {rivals[0].text.strip()}"


def _quantities(readings: Sequence[Reading]) -> list[Quantity]:
    return [quantity for reading in readings for token in reading.tokens for quantity in token.quantities]


def _figures(reading: Reading, most: int = _MOST_FIGURES) -> list[int]:
    return [at for at, token in enumerate(reading.tokens) if token.quantities][:most]


# ------------------------------------------------------------------------------------------- what a number is of


def _lead(reading: Reading, at: int) -> set[str]:
    """The terms just before a number in its sentence, as far as the number before that; dates do not count."""
    first = at
    while first > max(0, at - _LEAD_TOKENS) and not _parts(reading, first - 1):
        first -= 1
    return {term for term, weight in terms_of(reading.tokens[first:at]).items() if weight > 0.1}


def _parts(reading: Reading, at: int) -> bool:
    """Whether a token is a number, or the last one of its sentence."""
    token, after = reading.tokens[at], reading.tokens[at + 1]
    counts = any(quantity.unit not in units.CALENDAR for quantity in token.quantities)
    return counts or "\n" in reading.text[token.start : after.start]


def _told_by_what_follows(claim: Reading, at: int, held: Reading, own: Sequence[int], rivals: Sequence[int]) -> bool:
    trail = _trail(claim, at)
    return bool(trail) and any(_trail(held, k) == trail for k in own) and all(_trail(held, k) != trail for k in rivals)


def _trail(reading: Reading, at: int) -> tuple[str, ...]:
    """The four tokens after a number; nothing where there are fewer."""
    after = tuple(token.key for token in reading.tokens[at + 1 : at + 1 + _TRAIL_TOKENS])
    return after if len(after) == _TRAIL_TOKENS else ()


# ------------------------------------------------------------------------------------------------------ comparing


def _are_equal(one: Quantity, other: Quantity) -> bool:
    """Equal but for rounding; "the 80s" are those of any century, and not a year."""
    if (one.unit == units.DECADE) != (other.unit == units.DECADE):
        return False
    if one.unit == units.DECADE and min(one.value, other.value) < 100:
        return one.value % 100 == other.value % 100
    return abs(one.value - other.value) <= 1e-6 * max(abs(one.value), abs(other.value))


def _agree(one: Token, other: Token) -> bool:
    """Dates by the parts that both have, anything else by its value."""
    pairs = [(a, b) for a in one.quantities for b in other.quantities]
    shared = [(a, b) for a, b in pairs if a.unit == b.unit and a.unit in units.CALENDAR]
    return all(_are_equal(a, b) for a, b in shared) if shared else any(_are_equal(a, b) for a, b in pairs)


def _are_of_a_kind(one: Token, other: Token) -> bool:
    """Whether one number could stand for the other."""
    return any(_is_of_a_kind(a, b) for a in one.quantities for b in other.quantities)


def _is_of_a_kind(one: Quantity, other: Quantity) -> bool:
    if one.unit in units.CALENDAR or other.unit in units.CALENDAR:
        return one.unit == other.unit or (_is_year(one) and _is_year(other))
    return not units.clash(one.unit, other.unit)


def _are_certainly_of_a_kind(one: Token, other: Token) -> bool:
    """Both of one known unit, or both years."""
    pairs = [(a, b) for a in one.quantities for b in other.quantities]
    return any((a.unit and a.unit == b.unit) or (_is_year(a) and _is_year(b)) for a, b in pairs)


def _is_year(quantity: Quantity) -> bool:
    return quantity.unit in (units.YEAR, units.DECADE) or (not quantity.unit and 1000 <= quantity.value <= 2100)
