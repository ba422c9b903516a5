// A verified answer as pieces of text, each with the citations that support it. Pure: knows nothing of the page.
//
// Offsets of the service count Unicode characters, JavaScript strings count UTF-16 units: all slicing is done on
// Array.from(text), where one element is one character.

const MARK = /(\[\d+\])/;

/**
 * Split an answer where its cited sentences begin and end. Each piece is {parts, citations}; a part is {text} or
 * {citation}, the latter where the text has a mark [n] that a citation answers to. Citations without a mark in the
 * text come back as `unmarked`.
 */
export function pieces({ text, citations }) {
  const characters = Array.from(text);
  const marked = new Set();
  const found = spans(characters.length, citations).map(([start, end]) => {
    const covering = citations.filter((one) => one.answer_start <= start && end <= one.answer_end);
    const parts = partsOf(characters.slice(start, end).join(""), (marker) => answering(citations, marker, start, end));
    for (const part of parts) if (part.citation) marked.add(part.citation);
    return { parts, citations: covering };
  });
  return { pieces: found, unmarked: citations.filter((one) => !marked.has(one)) };
}

function spans(length, citations) {
  const ends = citations.flatMap((one) => [one.answer_start, one.answer_end]);
  const cuts = [...new Set([0, ...ends.filter((at) => at > 0 && at < length), length])].sort((a, b) => a - b);
  return cuts.slice(1).map((cut, index) => [cuts[index], cut]);
}

function partsOf(text, citationOf) {
  const parts = text.split(MARK).filter((part) => part !== "");
  return parts.map((part) => {
    const citation = MARK.test(part) ? citationOf(Number(part.slice(1, -1))) : undefined;
    return citation ? { citation } : { text: part };
  });
}

/** One passage may support several sentences under the same number: the mark means the sentence it stands in or after. */
function answering(citations, marker, start, end) {
  const named = citations.filter((one) => one.marker === marker);
  const around = named.find((one) => one.answer_start <= start && end <= one.answer_end);
  const before = named.filter((one) => one.answer_end <= start).sort((a, b) => b.answer_end - a.answer_end)[0];
  return around ?? before;
}

/** Slice by characters, as the service counts them. */
export function slice(text, start, end) {
  return Array.from(text).slice(start, end).join("");
}
