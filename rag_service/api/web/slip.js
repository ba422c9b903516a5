// The slip under an answer that shows one citation: where it comes from, the quoted words, the verdict.

import { button, make, spoken } from "./dom.js";
import { label } from "./words.js";

const VERDICTS = { supported: "verdictSupported", weak: "verdictWeak", unsupported: "verdictUnsupported" };

/** The button that stands for a citation in the text. */
export function markButton(citation, onClick) {
  const mark = make("button", { type: "button", class: "mark", "aria-expanded": "false" }, `[${citation.marker}]`);
  mark.dataset.verdict = citation.verdict;
  mark.addEventListener("click", () => onClick(mark));
  const values = { marker: citation.marker, name: citation.filename, verdict: { word: VERDICTS[citation.verdict] } };
  return label(mark, "mark", values);
}

export function slipOf(citation, onContext, onClose) {
  const head = make(
    "p",
    { class: "slip-head" },
    make("span", { class: "number", "aria-hidden": "true" }, `[${citation.marker}]`),
    make("span", { class: "filename" }, citation.filename),
    make("span", { class: "place" }, ...placeOf(citation)),
  );
  const verdict = spoken("span", { class: "verdict", "data-verdict": citation.verdict }, VERDICTS[citation.verdict]);
  const actions = make("p", { class: "slip-foot" }, verdict, button({}, "context", onContext), button({ class: "quiet" }, "close", onClose));
  const slip = make("section", { class: "slip" }, head, make("blockquote", {}, citation.quote), actions);
  return label(slip, "citation", { marker: citation.marker });
}

/** Page or heading path, whichever the document has; both where it has both. */
export function placeOf({ page, headings }) {
  const place = [];
  if (page) place.push(spoken("span", {}, "page", { page }));
  if (headings?.length) place.push(make("span", {}, headings.join(" › ")));
  return place;
}
