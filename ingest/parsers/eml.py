"""E-mail: subject, sender and receivers as written, the body, forwarded messages in their place.

Attachments are not read; they are named in a list, so that nobody thinks they were.
"""

from __future__ import annotations

import email
import email.errors
import email.header
import email.policy
import re
from collections.abc import Iterator
from email.message import Message

from ingest.parsers import decoding
from ingest.parsers.canonical import CanonicalText, clean
from ingest.parsers.html import add_html, charset, visible
from ingest.parsers.lines import columns
from ingest.parsers.plain import add_plain
from rag_service import media_types
from rag_service.errors import ParseFailed
from rag_service.types import ParsedDocument

_SHOWN = ("From", "To", "Cc", "Date")
_TELLING = frozenset(("from", "to", "subject", "date", "received", "message-id", "mime-version", "content-type"))
_DEEPEST = 20
_ATTACHMENTS = "附件（未收录）/ Attachments (not indexed):"
_SEALED = frozenset(("application/pkcs7-mime", "application/x-pkcs7-mime", "multipart/encrypted"))
_FATAL = (
    email.errors.CloseBoundaryNotFoundDefect,
    email.errors.InvalidBase64PaddingDefect,
    email.errors.InvalidBase64CharactersDefect,
    email.errors.InvalidBase64LengthDefect,
)
_MUCH_MORE = 1.5
"""Plain text of less than two thirds of what the HTML shows says only that there is HTML, or leaves its tables out."""
_CARRIED = re.compile("[\ud800-\udfff]")
"""Bytes beyond ASCII, as the standard library carries them in text."""
_FLOWED = re.compile(r"(?<=[^\n]) \n(?!-- ?\n|\n|>)")


class EmlParser:
    name = "eml/1"
    media_types = (media_types.EML,)
    suffixes = (".eml",)

    def parse(self, data: bytes) -> ParsedDocument:
        if not data.strip():
            raise ParseFailed("empty", "the file is empty")
        canonical = CanonicalText()
        add_mail(canonical, data)
        return canonical.document(self.name)


def add_mail(canonical: CanonicalText, data: bytes) -> None:
    """Append the blocks of an e-mail, or of a web page saved as one (.mht)."""
    # The compat32 policy: it hands out headers as they are, where the newer ones fail on malformed ones.
    message = email.message_from_bytes(_unmarked(data), policy=email.policy.compat32)
    if not _TELLING & {name.lower() for name in message.keys()}:  # noqa: SIM118
        raise ParseFailed("broken", "the file has none of an e-mail's headers")
    _add_message(canonical, message, depth=1)


def _unmarked(data: bytes) -> bytes:
    """Without a byte order mark, and without the envelope line of a mailbox, before the first header."""
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    return data.partition(b"\n")[2] if data.startswith((b"From ", b">From ")) else data


def _add_message(canonical: CanonicalText, message: Message, depth: int) -> None:
    if depth > _DEEPEST:
        raise ParseFailed("broken", f"messages are nested more than {_DEEPEST} deep")
    level = min(depth, 6)
    canonical.add("heading", f"{'#' * level} {_header(message, 'Subject')}".rstrip("# "), level=level)
    shown = [f"{name}: {value}" for name in _SHOWN if (value := _header(message, name))]
    canonical.add("paragraph", "\n".join(shown))
    attachments: list[str] = []
    _add_part(canonical, message, attachments, depth)
    if attachments:
        canonical.add("list", "\n".join([_ATTACHMENTS, *(f"- {attachment}" for attachment in attachments)]))


def _header(message: Message, name: str) -> str:
    """All values of a header, decoded, each on one line."""
    return ", ".join(_unfolded(str(value)) for value in _raw(message, name))


def _raw(message: Message, name: str) -> Iterator[str]:
    for key, value in message.raw_items():
        if key.lower() == name.lower():
            yield value


def _unfolded(value: str) -> str:
    """A header in encoded words (RFC 2047), or in bytes sent as they are, as text."""
    try:
        # Words of one charset are joined first: some programs cut a character in two between them.
        pieces = email.header.decode_header(value)
    except email.errors.HeaderParseError as error:
        raise ParseFailed("broken", f"a header cannot be decoded: {error}", error=type(error).__name__) from error
    return " ".join("".join(_decoded(piece, label) for piece, label in pieces).split())


def _decoded(piece: bytes | str, label: str | None) -> str:
    if isinstance(piece, str) and not _CARRIED.search(piece):
        return piece
    data = piece.encode("utf-8", "surrogateescape") if isinstance(piece, str) else piece
    if isinstance(piece, bytes) and label is None and not piece.isascii():
        # `decode_header` hands bytes beyond ASCII out in an encoding of its own.
        data = piece.decode("raw-unicode-escape").encode("ascii", "surrogateescape")
    return decoding.decode(data, label) if data.strip() else data.decode("ascii", "replace")


# --- the body


def _add_part(canonical: CanonicalText, part: Message, attachments: list[str], depth: int) -> None:
    kind = part.get_content_type()
    if kind in _SEALED:
        raise ParseFailed("encrypted", "the message is encrypted or sealed (S/MIME or PGP)")
    _refuse_damage(part)
    if kind == "message/rfc822" and part.is_multipart() and not _is_attached(part):
        for inner in _parts(part):
            _add_message(canonical, inner, depth + 1)
    elif part.is_multipart():
        chosen = _best(part) if kind == "multipart/alternative" else _parts(part)
        for inner in chosen:
            _add_part(canonical, inner, attachments, depth)
    elif _is_attached(part) or not kind.startswith(("text/", "multipart/")):
        attachments.append(_label(part))
    else:
        _add_text(canonical, part)


def _refuse_damage(part: Message) -> None:
    damage = next((defect for defect in part.defects if isinstance(defect, _FATAL)), None)
    if damage is not None:
        name = type(damage).__name__
        raise ParseFailed("broken", f"the message is damaged or cut short: {name}", error=name)


def _parts(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [inner for inner in payload if isinstance(inner, Message)] if isinstance(payload, list) else []


def _is_attached(part: Message) -> bool:
    disposition = str(part.get("Content-Disposition", "")).split(";")[0].strip().lower()
    return disposition == "attachment" or (part.get_filename() is not None and not part.is_multipart())


def _best(part: Message) -> list[Message]:
    """Of alternatives the plain text, unless the HTML shows much more; what is attached comes along."""
    alternatives = _parts(part)
    plain = next((inner for inner in alternatives if inner.get_content_type() == "text/plain"), None)
    rich = next((inner for inner in reversed(alternatives) if _holds_html(inner)), None)
    best = plain
    if plain is None or (rich is not None and _MUCH_MORE * _ink(plain) < _ink(rich)):
        best = rich or plain or (alternatives[-1] if alternatives else None)
    attached = [found for inner in alternatives if inner is not best for found in _attached(inner)]
    return [*([best] if best is not None else []), *attached]


def _attached(part: Message) -> Iterator[Message]:
    """What is attached within an alternative that is not read: Apple Mail puts files between pieces of HTML."""
    if _is_attached(part):
        yield part
    elif part.is_multipart():
        for inner in _parts(part):
            yield from _attached(inner)


def _holds_html(part: Message) -> bool:
    return any(inner.get_content_type() == "text/html" for inner in part.walk())


def _ink(part: Message) -> int:
    """Columns of text that are shown, about: an alternative that is not read must not fail the mail by its encoding."""
    texts = [inner for inner in part.walk() if inner.get_content_maintype() == "text" and not _is_attached(inner)]
    return sum(columns("".join(_shown(inner).split())) for inner in texts)


def _shown(part: Message) -> str:
    text = _bytes(part).decode("utf-8", "replace")
    return visible(text) if part.get_content_type() == "text/html" else text


def _bytes(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _add_text(canonical: CanonicalText, part: Message) -> None:
    data = _bytes(part)
    _refuse_damage(part)
    if not data.strip():
        return
    label = part.get_content_charset()
    if part.get_content_type() == "text/html":
        add_html(canonical, decoding.decode(data, label or charset(data)), title="")
        return
    text = clean(decoding.decode(data, label))
    if str(part.get_param("format", "")).lower() == "flowed":
        text = _FLOWED.sub("" if str(part.get_param("delsp", "")).lower() == "yes" else " ", text)
    add_plain(canonical, text)


def _label(part: Message) -> str:
    name = part.get_filename()
    shown = _unfolded(name) if name else "(no name)"
    if part.is_multipart():
        subjects = [subject for inner in _parts(part) if (subject := _header(inner, "Subject"))]
        return f"{subjects[0] if subjects and not name else shown} ({part.get_content_type()})"
    return f"{shown} ({part.get_content_type()}, {len(_bytes(part))} bytes)"
