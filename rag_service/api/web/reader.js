// The text around a citation, with the quote marked in it.

import { slice } from "./citations.js";
import { asProblem, at } from "./client.js";
import { byId, make, showProblem, spoken } from "./dom.js";
import { placeOf } from "./slip.js";

const AROUND_CHARS = 600;
const FURTHER_CHARS = 2000;

export class Reader {
  constructor(client) {
    this.client = client;
    this.dialog = byId("reader");
    byId("reader-close").addEventListener("click", () => this.dialog.close());
    byId("reader-before").addEventListener("click", () => this.#show({ ...this.span, start: this.span.start - FURTHER_CHARS }));
    byId("reader-after").addEventListener("click", () => this.#show({ ...this.span, end: this.span.end + FURTHER_CHARS }));
  }

  async open(citation) {
    this.citation = citation;
    byId("reader-title").textContent = citation.filename;
    byId("reader-place").replaceChildren(...placeOf(citation));
    byId("reader-text").replaceChildren();
    this.dialog.showModal();
    await this.#show({ start: citation.char_start - AROUND_CHARS, end: citation.char_end + AROUND_CHARS });
    byId("reader-text").querySelector("mark")?.scrollIntoView({ block: "center" });
  }

  async #show({ start, end }) {
    const { citation } = this;
    this.span = { start: Math.max(0, start), end };
    try {
      const path = at`v1/documents/${citation.document_id}/text` + `?start=${this.span.start}&end=${this.span.end}`;
      const shown = await this.client.get(path);
      if (citation !== this.citation) return; // another citation was opened in the meantime
      this.#fill(shown);
      showProblem(byId("reader-problem"), null);
    } catch (error) {
      showProblem(byId("reader-problem"), asProblem(error));
    }
  }

  #fill(shown) {
    byId("reader-text").replaceChildren(...highlighted(shown, this.citation));
    byId("reader-before").hidden = shown.char_start === 0;
    byId("reader-after").hidden = shown.char_end >= shown.total_chars;
  }
}

/** The text with the quote in a <mark>, or with a note where the quote is not in it. */
function highlighted({ text, char_start: start, version }, citation) {
  const [from, to] = [citation.char_start - start, citation.char_end - start];
  const quote = slice(text, from, to);
  if (quote === citation.quote) return [slice(text, 0, from), make("mark", {}, quote), slice(text, to)];
  const versions = { now: version, then: citation.document_version };
  const reason = version === citation.document_version ? "notThere" : "changed";
  return [spoken("span", { class: "notice" }, reason, versions), text];
}
