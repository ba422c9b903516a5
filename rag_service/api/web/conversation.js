// Questions and answers on the page. What streams in is a draft; only what `done` brings was checked.

import { pieces } from "./citations.js";
import { Problem, asProblem } from "./client.js";
import { byId, make, problemBox, spoken } from "./dom.js";
import { markButton, slipOf } from "./slip.js";
import { languageTag, say, word } from "./words.js";

export class Conversation {
  /** `onAsk` is called before a question is sent. */
  constructor(client, reader, onAsk) {
    this.client = client;
    this.reader = reader;
    this.onAsk = onAsk;
    this.knowledgeBaseId = null;
    this.id = null;
    this.underWay = null;
    this.#listen();
  }

  /** A new conversation, in a knowledge base; null where there is none to ask. */
  begin(knowledgeBaseId) {
    this.underWay?.abort();
    this.knowledgeBaseId = knowledgeBaseId;
    this.id = null;
    byId("log").replaceChildren();
    this.#refresh();
  }

  async ask(question) {
    const control = new AbortController();
    const turn = new Turn(question, this.reader);
    this.underWay = control;
    byId("log").append(turn.element);
    this.#refresh();
    turn.element.scrollIntoView({ block: "start" });
    try {
      this.id = await this.#answer(question, turn, control.signal);
    } catch (error) {
      if (error.name === "AbortError") turn.stopped();
      else turn.fail(asProblem(error));
    } finally {
      if (this.underWay === control) this.underWay = null;
      this.#refresh();
    }
  }

  /** Follow the stream to its end; the conversation's id. */
  async #answer(question, turn, signal) {
    const body = { query: question, knowledge_base_ids: [this.knowledgeBaseId], stream: true };
    if (this.id !== null) body.conversation_id = this.id;
    for await (const { event, data } of this.client.stream("v1/answers", body, signal)) {
      if (event === "retrieval") turn.found(data.passages.length);
      if (event === "delta") turn.append(data.text);
      if (event === "error") throw new Problem(data);
      if (event === "done") {
        turn.finish(data);
        return data.conversation_id;
      }
    }
    throw new Problem({ title: word("problemEnded"), detail: word("problemEndedDetail") });
  }

  #listen() {
    const question = byId("question");
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(question);
    });
    question.addEventListener("keydown", (event) => {
      // While an input method is composing, Enter chooses a character; Safari says so only by key code 229.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#submit(question);
    });
    byId("stop").addEventListener("click", () => {
      this.underWay?.abort();
      question.focus();
    });
    byId("new-conversation").addEventListener("click", () => {
      this.begin(this.knowledgeBaseId);
      question.focus();
    });
  }

  #submit(question) {
    const text = question.value.trim();
    if (!text || this.underWay || this.knowledgeBaseId === null) return;
    question.value = "";
    this.onAsk();
    this.ask(text);
  }

  #refresh() {
    const isEmpty = byId("log").childElementCount === 0;
    byId("empty").hidden = !isEmpty;
    byId("new-conversation").disabled = isEmpty;
    byId("send").hidden = this.underWay !== null;
    byId("send").disabled = this.knowledgeBaseId === null;
    byId("stop").hidden = this.underWay === null;
  }
}

/** One question with what became of it. */
class Turn {
  constructor(question, reader) {
    this.reader = reader;
    this.status = spoken("p", { class: "status", role: "status" }, "searching");
    // Busy while the draft streams, so that a screen reader reads the checked answer once and not every piece of it.
    this.answer = make("div", { class: "answer", "aria-live": "polite", "aria-busy": "true" });
    this.slip = make("div", { "aria-live": "polite" });
    const asked = make("p", { class: "asked" }, spoken("span", { class: "unseen" }, "you"), " ", make("span", {}, question));
    this.element = make("li", { class: "turn", "data-outcome": "pending" }, asked, this.status, this.answer, this.slip);
  }

  found(count) {
    say(this.status, "found", { count });
  }

  append(text) {
    if (!this.draft) {
      this.draft = make("p", { class: "text" });
      this.answer.append(spoken("p", { class: "draft-note" }, "draft"), this.draft);
    }
    this.draft.append(text);
  }

  finish(answer) {
    const content = answer.outcome === "refused" ? this.#refusal(answer) : this.#verified(answer);
    this.#settle(answer.outcome, content);
    const seconds = (answer.timings_ms.total / 1000).toFixed(1);
    this.element.append(spoken("p", { class: "made" }, "madeIn", { generator: answer.generator, seconds }));
    if (answer.outcome !== "refused") say(this.status, "answered", { count: answer.citations.length });
  }

  fail(problem) {
    this.#settle("error", [problemBox(problem)]);
  }

  stopped() {
    this.#settle("stopped", [spoken("p", { class: "notice" }, "stopped")]);
  }

  #settle(outcome, content) {
    this.element.dataset.outcome = outcome;
    this.answer.replaceChildren(...content);
    this.answer.setAttribute("aria-busy", "false");
    delete this.status.dataset.word;
    this.status.textContent = "";
  }

  #refusal({ text, refusal, language }) {
    const said = make("p", { class: "text", lang: languageTag(language) }, text);
    return [spoken("p", { class: "refusal" }, "refused"), said, spoken("p", { class: "hint" }, refusal?.reason ?? "no_evidence")];
  }

  #verified(answer) {
    const split = pieces(answer);
    const text = make("p", { class: "text", lang: languageTag(answer.language) });
    text.append(...split.pieces.map((piece) => this.#piece(piece)));
    const content = [text];
    if (split.unmarked.length) content.push(this.#unmarked(split.unmarked));
    const isMarked = answer.citations.some((one) => one.verdict === "unsupported");
    if (answer.outcome === "partial") content.push(spoken("p", { class: "notice" }, isMarked ? "partialMarked" : "partial"));
    return content;
  }

  #piece({ parts, citations }) {
    const nodes = parts.map((part) => (part.citation ? this.#mark(part.citation) : part.text));
    return make("span", citations.length ? { class: "sentence" } : {}, ...nodes);
  }

  #unmarked(citations) {
    return make("p", { class: "hint" }, spoken("span", {}, "sources"), " ", ...citations.map((one) => this.#mark(one)));
  }

  #mark(citation) {
    return markButton(citation, (mark) => {
      const isOpen = mark.getAttribute("aria-expanded") === "true";
      this.#closeSlip();
      if (!isOpen) this.#openSlip(citation, mark);
    });
  }

  #openSlip(citation, mark) {
    mark.setAttribute("aria-expanded", "true");
    mark.closest(".sentence")?.classList.add("opened");
    const close = () => {
      this.#closeSlip();
      mark.focus();
    };
    this.slip.append(slipOf(citation, () => this.reader.open(citation), close));
    this.slip.scrollIntoView({ block: "nearest" });
  }

  #closeSlip() {
    this.slip.replaceChildren();
    for (const mark of this.answer.querySelectorAll(".mark")) mark.setAttribute("aria-expanded", "false");
    for (const sentence of this.answer.querySelectorAll(".opened")) sentence.classList.remove("opened");
  }
}
