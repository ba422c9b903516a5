"""Which characters are written without spaces between words: inside of character classes, and compiled."""

from __future__ import annotations

import re

# Han with its extensions and compatibility block, the two iteration marks, and kana.
HAN = "\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
KANA = "\u3040-\u30ff\u31f0-\u31ff"

CJK_RUN = re.compile(f"[{HAN}{KANA}]+")
CJK_CHARACTER = re.compile(f"[{HAN}{KANA}]")
SCRIPT_RUN = re.compile(f"[{HAN}{KANA}]+|[^{HAN}{KANA}]+")
