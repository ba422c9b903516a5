// Knowledge bases and their documents: choose, create, add, delete.

import { asProblem, at } from "./client.js";
import { announce, button, byId, make, showProblem, spoken } from "./dom.js";
import { Uploads } from "./uploads.js";
import { label, word } from "./words.js";

const PAGE = 50;
const WATCH_MS = 2000;
const STORED = "youju.knowledge-base";
const UNSETTLED = new Set(["queued", "processing"]);

export class Library {
  /** `onChosen` is called with the id of the knowledge base in use whenever it changes. */
  constructor(client, onChosen) {
    this.client = client;
    this.onChosen = onChosen;
    this.knowledgeBaseId = null;
    this.pages = 1;
    this.watch = null;
    this.uploads = new Uploads(client, byId("uploads"), () => this.#reload());
    this.#listen();
  }

  /** Shows all knowledge bases and opens the one used last; throws the problem when they cannot be had. */
  async open() {
    const knowledgeBases = await this.client.all("v1/knowledge-bases");
    const options = knowledgeBases.map((one) => make("option", { value: one.id }, one.name));
    byId("knowledge-base").replaceChildren(...options);
    byId("knowledge-base").disabled = knowledgeBases.length === 0;
    const known = knowledgeBases.map((one) => one.id);
    const last = sessionStorage.getItem(STORED);
    this.#choose(known.includes(last) ? last : (known[0] ?? null));
    this.#showCreateForm(known.length === 0);
  }

  #listen() {
    byId("knowledge-base").addEventListener("change", (event) => this.#choose(event.target.value));
    byId("new-knowledge-base").addEventListener("click", () => {
      this.#showCreateForm(byId("create-form").hidden);
      byId("new-name").focus();
    });
    byId("create-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#trying(() => this.#create(byId("new-name").value.trim()));
    });
    byId("more-documents").addEventListener("click", () => {
      this.pages += 1;
      this.#reload();
    });
    listenForFiles((files) => this.uploads.add(this.knowledgeBaseId, files));
  }

  #showCreateForm(shown) {
    byId("create-form").hidden = !shown;
    byId("new-knowledge-base").setAttribute("aria-expanded", String(shown));
  }

  #choose(id) {
    this.knowledgeBaseId = id;
    this.pages = 1;
    this.uploads.clear();
    byId("shelf").hidden = id === null;
    byId("documents").replaceChildren();
    showProblem(byId("library-problem"), null);
    if (id !== null) {
      byId("knowledge-base").value = id;
      sessionStorage.setItem(STORED, id);
      this.#reload();
    }
    this.onChosen(id);
  }

  async #create(name) {
    const created = await this.client.post("v1/knowledge-bases", { name });
    byId("create-form").reset();
    sessionStorage.setItem(STORED, created.id);
    await this.open();
    byId("files").focus();
  }

  #reload() {
    return this.#trying(() => this.#showDocuments(this.knowledgeBaseId));
  }

  async #showDocuments(knowledgeBaseId) {
    clearTimeout(this.watch);
    const { documents, isAll } = await this.#documents(knowledgeBaseId);
    if (knowledgeBaseId !== this.knowledgeBaseId) return; // another one was chosen in the meantime
    const shown = documents.filter((document) => !this.uploads.follows(document.id));
    byId("documents").replaceChildren(...shown.map((document) => this.#paper(document)));
    byId("no-documents").hidden = documents.length > 0;
    byId("more-documents").hidden = isAll;
    if (shown.some((document) => UNSETTLED.has(document.state))) {
      this.watch = setTimeout(() => this.#reload(), WATCH_MS);
    }
  }

  async #documents(knowledgeBaseId) {
    const documents = [];
    let cursor = "";
    for (let page = 0; page < this.pages && cursor !== null; page += 1) {
      const query = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
      const list = await this.client.get(at`v1/knowledge-bases/${knowledgeBaseId}/documents` + `?limit=${PAGE}${query}`);
      documents.push(...list.items);
      cursor = list.next_cursor;
    }
    return { documents, isAll: cursor === null };
  }

  #paper(document) {
    const name = make("span", { class: "filename" }, document.filename);
    const remove = button({ class: "quiet" }, "delete", () => this.#trying(() => this.#remove(document)));
    const facts = make("p", { class: "facts" }, ...this.#facts(document), label(remove, "deleteNamed", { name: document.filename }));
    const item = make("li", { "data-state": document.state }, name, spoken("span", { class: "state" }, document.state), facts);
    if (document.error) item.append(make("p", { class: "problem" }, document.error.detail || document.error.title));
    return item;
  }

  #facts(document) {
    const facts = [];
    if (document.pages) facts.push(spoken("span", {}, "pages", { count: document.pages }));
    if (document.chunks) facts.push(spoken("span", {}, "chunks", { count: document.chunks }));
    return facts;
  }

  async #remove(document) {
    if (!window.confirm(word("confirmDelete", { name: document.filename }))) return;
    await this.client.delete(at`v1/documents/${document.id}`);
    announce("deleted", { name: document.filename });
    await this.#showDocuments(this.knowledgeBaseId);
    byId("files").focus(); // the button that had the focus is gone
  }

  async #trying(action) {
    try {
      await action();
      showProblem(byId("library-problem"), null);
    } catch (error) {
      showProblem(byId("library-problem"), asProblem(error));
    }
  }
}

function listenForFiles(onFiles) {
  const input = byId("files");
  const drop = byId("drop");
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // the same file may be chosen again
    onFiles(files);
  });
  // Wherever else a file is dropped, the browser must not leave the page for it.
  for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    const files = [...event.dataTransfer.files];
    if (files.length) onFiles(files);
  });
}
