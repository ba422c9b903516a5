"""The labelled set of `bench.citations`: sentences with a passage each, true or made untrue, in four directions.

Everything comes from real passages of the evaluation sets, deterministically. A *true* sentence is a copy, a copy with
a clause left out, with synonyms, with numbers, dates and units written differently, two sentences made one, a human
question with its answer put in, or (DRAGONBall) what a model wrote about the passage where its evidence, numbers and
names are in it; across languages, the parallel sentence of XQuAD, treated in the same ways. An *untrue* one is a true
one that was changed in one place (number, name, negation or opposite, unit), or that cites another passage, by chance
or from the same article. Halves are split by article, so no text is in both.

What the labels are worth: a changed sentence is untrue as far as anyone can tell, though a few are not grammatical; a
passage of the same article is taken only where it lacks the answer and half of the wording; XQuAD's translations
contain a few slips (feet for inches, 1935 for 1930), which stay in as true sentences.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from zlib import crc32

from bench import rewordings
from bench.evalset import equivalents, rows
from rag_service.text import sentences

KINDS = ("wrong passage", "number", "name", "negation", "unit")
DIRECTIONS = ("zh→zh", "en→en", "zh→en", "en→zh")
"""Sentence → passage."""
_TRUE_A_DIRECTION = 600
_UNTRUE_A_KIND = 200
_TOLD_FIRST = 120
"""Passages about which somebody wrote something are rare, so that many of them come first."""
_HAN = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class Case:
    kind: str
    """`true` or one of KINDS."""
    how: str
    """The way in which it was made, for a closer look."""
    direction: str
    half: str
    """`dev`: thresholds may be set on it; `test`: only reported."""
    sentence: str
    passage: str
    title: str
    parent: int
    """Index of the true case this one was made from; its own index for a true one."""


@dataclass(frozen=True, slots=True)
class Place:
    """A passage with what is known to be true of it."""

    set: str
    group: str
    title: str
    text: str
    twin: str | None = None
    """The same passage in the other language."""
    twin_sentences: tuple[str, ...] = ()
    asked: tuple[tuple[str, str], ...] = ()
    twin_asked: tuple[tuple[str, str], ...] = ()
    told: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Claim:
    how: str
    text: str
    place: Place
    answer: str | None = None
    """What must not stand in a passage that is not to support it."""


@dataclass(slots=True)
class _Library:
    places: list[Place]
    groups: dict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for place in self.places:
            self.groups[place.group].append(place)


def build(folder: Path, seed: int = 3) -> list[Case]:
    """About 5,000 cases; the same for the same folder and seed."""
    cases: list[Case] = []
    for direction in DIRECTIONS:
        said, cited = direction.split("→")
        places = _cross_places(folder, said, cited) if said != cited else _places(folder, said)
        _fill(Random(f"{seed} {direction}"), direction, _Library(places), equivalents(folder), cases)
    return cases


def _fill(rng: Random, direction: str, library: _Library, same: dict[str, str], cases: list[Case]) -> None:
    order = list(library.places)
    rng.shuffle(order)
    # Sets take turns, so that no large one crowds out a small one.
    order = _by_turns(order)
    pool = _name_pool(library.places)
    counts: Counter[str] = Counter()
    told = [place for place in order if place.told][:_TOLD_FIRST]
    for place in told + [place for place in order if place not in told]:
        if counts["true"] >= _TRUE_A_DIRECTION:
            break
        for claim in _claims(rng, place, direction):
            parent = len(cases)
            cases.append(_case("true", claim.how, claim, direction, place, parent))
            counts["true"] += 1
            made = 0
            for kind in sorted(KINDS, key=lambda kind: (counts[kind], rng.random())):
                if made == 2 or counts[kind] >= _UNTRUE_A_KIND:
                    continue
                untrue = _untrue(rng, kind, claim, library, pool)
                if untrue is not None:
                    how, text, cited = untrue
                    changed = _Claim(how, text, claim.place)
                    cases.append(_case(kind, how, changed, direction, cited, parent))
                    counts[kind] += 1
                    made += 1


def _by_turns(places: list[Place]) -> list[Place]:
    queues: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        queues[place.set].append(place)
    turns = []
    while queues:
        for name in list(queues):
            turns.append(queues[name].pop())
            if not queues[name]:
                del queues[name]
    return turns


def _case(kind: str, how: str, claim: _Claim, direction: str, cited: Place, parent: int) -> Case:
    half = "dev" if crc32(claim.place.group.encode()) % 2 else "test"
    return Case(kind, how, direction, half, claim.text, cited.text, cited.title, parent)


# ---------------------------------------------------------------------------------------------------------- places


def _places(folder: Path, language: str) -> list[Place]:
    if language == "zh":
        return [
            *_asked_about(folder, "cmrc", "zh", lambda row: row["id"]),
            *_asked_about(folder, "drcd", "zh-Hant", lambda row: row["id"].rsplit("-", 1)[0]),
            *_parallel(folder, "zh", "zh"),
            *_told_about(folder, "crud", "zh"),
            *_told_about(folder, "dragonball", "zh"),
        ]
    return [
        *_asked_about(folder, "squad", "en", lambda row: row["title"]),
        *_parallel(folder, "en", "en"),
        *_asked_about(folder, "pubmedqa", "en", lambda row: row["id"]),
        *_told_about(folder, "clapnq", "en"),
        *_told_about(folder, "dragonball", "en"),
    ]


def _cross_places(folder: Path, said: str, cited: str) -> list[Place]:
    return list(_parallel(folder, cited, said))


def _asked_about(folder: Path, name: str, language: str, group: Callable[[dict[str, str]], str]) -> Iterator[Place]:
    asked = defaultdict(list)
    for query in rows(folder, "queries", name, language):
        if query["answerable"] and name != "pubmedqa":
            asked[query["relevant"][0]].append((query["text"], query["answers"][0]))
    for row in rows(folder, "passages", name, language):
        for text in _chunks(row["text"]):
            pairs = tuple(pair for pair in asked[row["id"]] if pair[1] in text)
            yield Place(name, f"{name} {group(row)}", row["title"], text, asked=pairs, names=_names(pairs, text))


def _parallel(folder: Path, cited: str, said: str) -> Iterator[Place]:
    """XQuAD: passages in `cited`, their twin sentences and questions in `said`, cut as XQuAD-R cut them."""
    twin_sentences = defaultdict(list)
    for row in rows(folder, "passages", "xquadr", said):
        twin_sentences[row["context_id"].split(":")[2]].append(row["text"])
    asked = {
        language: _grouped(
            (q["relevant"][0].split(":")[2], (q["text"], q["answers"][0]))
            for q in rows(folder, "queries", "xquad", language)
        )
        for language in {cited, said}
    }
    twins = {row["id"].split(":")[2]: row["text"] for row in rows(folder, "passages", "xquad", said)}
    for row in rows(folder, "passages", "xquad", cited):
        key = row["id"].split(":")[2]
        pairs = tuple(asked[said].get(key, ()))
        yield Place(
            "xquad", f"xquad {key.split('.')[0]}", "", row["text"], twin=twins[key] if said != cited else None,
            twin_sentences=tuple(twin_sentences[key]), asked=pairs, names=_names(pairs, twins[key]),
        )  # fmt: skip


def _grouped(pairs: Iterator[tuple[str, tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
    grouped = defaultdict(list)
    for key, pair in pairs:
        grouped[key].append(pair)
    return grouped


def _told_about(folder: Path, name: str, language: str) -> Iterator[Place]:
    """Long documents in chunks, with what was written about each: only where the evidence is known to be in it."""
    told: dict[str, list[tuple[list[str], str]]] = defaultdict(list)
    for query in rows(folder, "queries", name, language):
        for refs, text in _tellings(name, query):
            told[query["relevant"][0]].append((refs, text))
    for row in rows(folder, "passages", name, language):
        for text in _chunks(row["text"]):
            about = tuple(
                said for refs, said in told[row["id"]] if all(r in text for r in refs) and _all_there(said, row, text)
            )
            names = tuple(rewordings.english_names(text)) if language == "en" else _chinese_names(text)
            yield Place(name, f"{name} {row['id']}", " ".join(row["title"].split()), text, told=about[:3], names=names)


def _tellings(name: str, query: dict[str, object]) -> Iterator[tuple[list[str], str]]:
    if name == "dragonball" and query.get("type") in ("事实性问题", "Factual Question"):
        refs = [str(ref) for ref in query.get("refs") or []]  # type: ignore[attr-defined]
        if 1 <= len(refs) <= 3:
            for point in query["keypoints"]:  # type: ignore[attr-defined]
                yield refs, re.sub(r"^\d+\.\s*", "", point)


def _all_there(said: str, row: dict[str, str], text: str) -> bool:
    """Whether the numbers and capitals of what was told of a whole document are in this part of it (or its title)."""
    facts = re.findall(r"\d+(?:[.,]\d+)*", said) + re.findall(r"(?<!^)\b[A-Z][\w']+", said)
    return all(fact in text or fact in row["title"] for fact in facts)


def _chunks(text: str) -> Iterator[str]:
    """Whole sentences up to about what the ingester puts into one chunk."""
    limit = 420 if _HAN.search(text) else 1100
    begin = None
    end = 0
    for start, stop in sentences(text):
        if begin is not None and stop - begin > limit:
            yield text[begin:end]
            begin = None
        begin = start if begin is None else begin
        end = stop
    if begin is not None and end - begin > limit / 4:
        yield text[begin:end]


# ---------------------------------------------------------------------------------------------------------- claims


def _claims(rng: Random, place: Place, direction: str) -> Iterator[_Claim]:
    """Up to three true sentences about a passage, made in different ways."""
    whole = _whole_sentences(place, direction)
    if len(whole) < 2:
        return
    human = [*(_Claim("told", text, place) for text in place.told), *_statements(rng, place)]
    made = list(_reworded(rng, place, whole, direction))
    plain = made.pop(0)
    rng.shuffle(human)
    rng.shuffle(made)
    chosen = [*human[:1], *made[:1], *([plain] if rng.random() < 1 / 2 else made[1:2])]
    for claim in chosen:
        if len(list(sentences(claim.text))) == 1:
            yield claim


def _whole_sentences(place: Place, direction: str) -> list[str]:
    said, cited = direction.split("→")
    texts = place.twin_sentences if said != cited else [place.text[a:b] for a, b in sentences(place.text)]
    texts = [text for text in texts if not re.match(r"[#*|>-]|\d+[.、)]|.{0,12}\*\*", text)]
    if said == "zh":
        return [text for text in texts if 14 <= len(text) <= 120 and _HAN.search(text)]
    return [text for text in texts if 7 <= len(text.split()) <= 50 and text[0].isupper()]


def _statements(rng: Random, place: Place) -> Iterator[_Claim]:
    pairs = list(place.asked)
    rng.shuffle(pairs)
    for question, answer in pairs:
        said = rewordings.statement(question, answer)
        if said:
            yield _Claim("question+answer", said, place, answer)


def _reworded(rng: Random, place: Place, whole: list[str], direction: str) -> Iterator[_Claim]:
    across = direction[:2] != direction[-2:]
    suffix = " translated" if across else ""
    plain = rng.choice(whole)
    yield _Claim("translation" if across else "verbatim", plain, place)
    for how, way in (
        ("clause left out", rewordings.without_a_clause),
        ("synonyms", rewordings.with_synonyms),
        ("reformatted", rewordings.reformatted),
    ):
        candidates = list(whole)
        rng.shuffle(candidates)
        said = next((text for text in (way(rng, sentence) for sentence in candidates) if text), None)
        if said:
            yield _Claim(how + suffix, said, place)
    both = _fused(rng, whole)
    if both:
        yield _Claim("two sentences" + suffix, both, place)
    shortened = rewordings.without_a_clause(rng, plain)
    if shortened and (again := rewordings.with_synonyms(rng, shortened)):
        yield _Claim("clause left out, synonyms" + suffix, again, place)


def _fused(rng: Random, whole: list[str]) -> str | None:
    short = [text for text in whole if len(text) < (60 if _HAN.search(text) else 150) and text[-1] in "。."]
    if len(short) < 2:
        return None
    first = rng.randrange(len(short) - 1)
    second = rng.randrange(first + 1, len(short))
    if _HAN.search(short[first]):
        return f"{short[first][:-1]}，并且{short[second]}"
    return f"{short[first][:-1]}, and {short[second]}"


# ---------------------------------------------------------------------------------------------------------- untrue


def _untrue(
    rng: Random, kind: str, claim: _Claim, library: _Library, pool: dict[str, list[str]]
) -> tuple[str, str, Place] | None:
    if kind == "wrong passage":
        return _wrong_passage(rng, claim, library)
    if kind == "name":
        return _wrong_name(rng, claim, pool)
    way = {"number": rewordings.changed_number, "negation": rewordings.negated, "unit": rewordings.swapped_unit}[kind]
    text = way(rng, claim.text, claim.place.twin or claim.place.text)
    return (claim.how, text, claim.place) if text and text != claim.text else None


def _wrong_passage(rng: Random, claim: _Claim, library: _Library) -> tuple[str, str, Place] | None:
    """From the same article where there is another passage, else (and one time in three) from anywhere in the set."""
    near = [place for place in library.groups[claim.place.group] if place.text != claim.place.text]
    how = "same article" if near and rng.random() < 2 / 3 else "random"
    for _ in range(4):
        other = rng.choice(near) if how == "same article" else rng.choice(library.places)
        if other.text != claim.place.text and not _might_support(claim, other):
            return how, claim.text, other
    return None


def _might_support(claim: _Claim, other: Place) -> bool:
    """Told without the verifier: too much of the wording, or the answer itself, stands there (or in its twin)."""
    text = other.twin or other.text
    if claim.answer is not None and claim.answer in text:
        return True
    if _HAN.search(claim.text):
        pieces = [claim.text[at : at + 2] for at in range(len(claim.text) - 1) if _HAN.match(claim.text[at])]
    else:
        pieces = re.findall(r"[a-z]{4,}", claim.text.lower())
        text = text.lower()
    return sum(piece in text for piece in pieces) > 0.5 * len(pieces)


def _names(pairs: tuple[tuple[str, str], ...], text: str) -> tuple[str, ...]:
    """Names a passage holds: answers to who and where, and what is capitalised, dotted or in title marks."""
    answers = [
        a for q, a in pairs if re.search(r"谁|誰|哪位|哪里|哪裡|哪个|哪個|哪座|何人|何处|\b(?:Who|Where|Which)\b", q)
    ]
    known = [a for a in answers if 2 <= len(a) <= 30 and not re.search(r"[\d，。、和的或與与]|^[a-z]", a)]
    return tuple(
        dict.fromkeys([*known, *(_chinese_names(text) if _HAN.search(text) else rewordings.english_names(text))])
    )


def _chinese_names(text: str) -> tuple[str, ...]:
    dotted = re.findall("[\u4e00-\u9fff]{1,4}·[\u4e00-\u9fff]{2,4}(?=[，。、和的在是于與与])", text)
    titled = re.findall("《([^》]{2,12})》", text)
    bodies = re.findall("(?<=[，。、和在与與由])[\u4e00-\u9fff]{2,6}(?:有限公司|大学|大學|集团|医院|銀行|银行)", text)
    whole = (body for body in bodies if not re.search("[的了和将并也该是本向对为于有某]", body[:-4]))
    return (*dotted, *titled, *whole)


def _name_pool(places: list[Place]) -> dict[str, list[str]]:
    pool = defaultdict(set)
    for place in places:
        for name in place.names:
            pool[_shape(name)].add(name)
    return {shape: sorted(names) for shape, names in pool.items()}


def _shape(name: str) -> str:
    if not _HAN.search(name):
        return f"en {min(len(name.split()), 3)}"
    if "·" in name:
        return "zh dotted"
    ending = re.search("(?:公司|大学|大學|集团|医院|銀行|银行|省|市|县|縣|国|國|岛|島|州|队|隊)$", name)
    return f"zh {ending.group() if ending else min(len(name), 4)}"


def _wrong_name(rng: Random, claim: _Claim, pool: dict[str, list[str]]) -> tuple[str, str, Place] | None:
    """Another name of the same shape, one time in three of the same passage."""
    mine = [name for name in claim.place.names if name in claim.text]
    if not mine:
        return None
    old = rng.choice(mine)
    text = claim.place.twin or claim.place.text
    others = [n for n in pool[_shape(old)] if n not in text and n not in claim.text and old not in n]
    beside = [
        n
        for n in claim.place.names
        if _shape(n) == _shape(old) and n not in claim.text and old not in n and n not in old
    ]
    how, names = ("same passage", beside) if beside and rng.random() < 1 / 3 else ("elsewhere", others)
    if not names:
        return None
    return how, rewordings.renamed(claim.text, old, rng.choice(names)), claim.place
