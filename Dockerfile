# One image for `youju serve` and `youju worker`. Both need /data writable and a tmpfs on /tmp; nothing else is written,
# so the root file system may be read-only.

# 3.11, because constraints.txt was resolved and tested on it; `slim` and not `alpine`, because the wheels of FAISS,
# tantivy and pysqlite3 are built for glibc. Python before 3.11.8 inflates zips with overlapping entries
# (CVE-2024-0450); the tag has long been past it.
FROM python:3.11-slim-bookworm AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PATH=/opt/youju/bin:$PATH
RUN python -m venv /opt/youju
WORKDIR /source

# The dependencies first: this layer is rebuilt only when they change, not with every line of code.
COPY pyproject.toml constraints.txt ./
# With [ocr]: whoever runs the image cannot add it.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        print(*p['dependencies'], *p['optional-dependencies']['ocr'], sep='\n')" \
        > requirements.txt \
    && pip install --no-compile --only-binary=:all: --constraint constraints.txt --requirement requirements.txt

COPY README.md LICENSE ./
COPY migrations migrations
COPY ingest ingest
COPY rag_service rag_service
RUN pip install --no-compile --no-deps .

# Bytecode is compiled here, once: at run time the root is read-only. Unchecked, because these sources never change.
RUN pip uninstall --yes pip setuptools \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/youju/lib


FROM python:3.11-slim-bookworm

# OPENBLAS_NUM_THREADS: the embedder and FAISS bring their own parallelism; more BLAS threads only fight over the cores.
# HOME: a library that insists on a home folder gets the tmpfs.
ENV PATH=/opt/youju/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=1 \
    HOME=/tmp \
    YOUJU_DATA=/data

# A named volume takes its owner from the folder in the image, so the folder has to exist before the VOLUME line.
RUN groupadd --gid 10001 youju \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin youju \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data

COPY --from=builder /opt/youju /opt/youju

USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000

# No proxy: one that the environment names would be asked for 127.0.0.1 too.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=4)"]

ENTRYPOINT ["youju"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--data", "/data", "--workers", "0"]
