"""The parts of a multipart body, read to its very end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from rag_service.errors import InvalidInput, UnsupportedType

_EPILOGUE_BYTES = 1_024


@asynccontextmanager
async def files(request: Request, most_files: int) -> AsyncIterator[FormData]:
    """The form, its files open until the `with` ends. Raises UnsupportedType, and HTTPException(400) for a body that
    is broken, cut off, or holds fields that are no files; InvalidInput for one of more files than `most_files`."""
    content_type, options = parse_options_header(request.headers.get("content-type"))
    if content_type != b"multipart/form-data":
        raise UnsupportedType("send multipart/form-data")
    try:
        async with aclosing(_whole(request.stream(), options.get(b"boundary", b""))) as body:
            parser = MultiPartParser(request.headers, body, max_files=most_files, max_fields=0)
            form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            detail = f"a request has at most {most_files:,} files; send the others with another"
            raise InvalidInput(detail, limit_files=most_files) from error
        raise HTTPException(400, error.message) from error
    try:
        yield form
    finally:
        await form.close()


async def _whole(stream: AsyncIterator[bytes], boundary: bytes) -> AsyncGenerator[bytes, None]:
    """The parser leaves out a file that the body breaks off in, and says nothing: so the closing boundary must come."""
    closing, tail = b"--" + boundary + b"--", b""
    async for piece in stream:
        tail = (tail + piece)[-(len(closing) + _EPILOGUE_BYTES) :]
        yield piece
    if closing not in tail:
        raise MultiPartException("the body ends before its closing boundary")
