// Files on their way in: sent in batches, then followed by their job until each is ready or failed.

import { asProblem, at } from "./client.js";
import { announce, button, make, problemBox, spoken } from "./dom.js";
import { label, say, word } from "./words.js";

const POLL_MS = 500;
const POLL_FAILURES = 5;
// Far below the default limit of a request body (100 MB); a larger file travels alone and the service judges it.
const BATCH_BYTES = 32_000_000;
const SETTLED = new Set(["ready", "failed", "cancelled"]);
const JOB_UNDER_WAY = new Set(["queued", "running"]);

export class Uploads {
  /** `onSettled` is called whenever documents became ready or failed. */
  constructor(client, list, onSettled) {
    this.client = client;
    this.list = list;
    this.onSettled = onSettled;
    this.followed = new Map();
  }

  /** Whether a document is shown here, and so need not be shown among the others yet. */
  follows(documentId) {
    return this.followed.has(documentId);
  }

  async add(knowledgeBaseId, files) {
    for (const row of this.list.querySelectorAll("[data-final]")) row.remove();
    const waiting = files.map((file) => ({ file, row: new Row(file.name) }));
    this.list.append(...waiting.map(({ row }) => row.element));
    for (const batch of batches(waiting)) await this.#send(knowledgeBaseId, batch);
  }

  clear() {
    this.followed.clear();
    this.list.replaceChildren();
  }

  async #send(knowledgeBaseId, batch) {
    const form = new FormData();
    for (const { file } of batch) form.append("files", file, file.name);
    try {
      const accepted = await this.client.upload(at`v1/knowledge-bases/${knowledgeBaseId}/documents`, form);
      accepted.items.forEach((item, index) => this.#accept(item, batch[index].row));
      const queued = accepted.items.filter((item) => item.status === "queued").map((item) => item.document_id);
      if (queued.length) this.#follow(accepted.job_id, queued);
    } catch (error) {
      for (const { row } of batch) row.end("rejected", asProblem(error));
    }
  }

  #accept(item, row) {
    if (item.status === "queued") {
      this.followed.set(item.document_id, row);
      row.show("queued");
    } else {
      row.end(item.status, item.problem ?? null);
    }
  }

  async #follow(jobId, documentIds) {
    let isUnderWay = true;
    // Nobody watches any more once another knowledge base was chosen.
    while (isUnderWay && documentIds.some((id) => this.follows(id))) {
      await pause(POLL_MS);
      try {
        const job = await this.#look(jobId);
        for (const item of job.items) this.#progress(item);
        isUnderWay = JOB_UNDER_WAY.has(job.state);
      } catch (error) {
        this.#lose(documentIds, asProblem(error));
      }
    }
  }

  /** A job's state, over a few lost connections. */
  async #look(jobId) {
    for (let failures = 1; ; failures += 1) {
      try {
        return await this.client.get(at`v1/jobs/${jobId}`);
      } catch (error) {
        if (failures === POLL_FAILURES || error.status === 401) throw error;
        await pause(POLL_MS * 2 ** failures);
      }
    }
  }

  /** The service still works on these, but says nothing about it any more. */
  #lose(documentIds, problem) {
    for (const id of documentIds) {
      this.followed.get(id)?.end("queued", problem);
      this.followed.delete(id);
    }
  }

  #progress(item) {
    const row = this.followed.get(item.document_id);
    if (!row) return;
    row.show(item.state);
    if (!SETTLED.has(item.state)) return;
    this.followed.delete(item.document_id);
    announce("stateOf", { name: row.name, state: word(item.state) });
    if (item.state === "cancelled") row.end("cancelled", item.problem ?? null);
    else row.element.remove(); // from here on the list of documents shows it, with its problem if it has one
    this.onSettled();
  }
}

class Row {
  constructor(name) {
    this.name = name;
    this.state = make("span", { class: "state" });
    this.element = make("li", {}, make("span", { class: "filename" }, name), this.state);
    this.show("uploading");
  }

  show(state) {
    this.element.dataset.state = state;
    say(this.state, state);
  }

  /** The last word on this file, with the reason; stays until dismissed. */
  end(state, problem) {
    this.show(state);
    this.element.dataset.final = "";
    if (problem) this.element.append(problemBox(problem));
    else if (state === "duplicate") this.element.append(spoken("p", { class: "hint" }, "duplicateDetail"));
    const dismiss = button({ class: "quiet" }, "dismiss", () => this.element.remove());
    this.element.append(label(dismiss, "dismissNamed", { name: this.name }));
    announce("stateOf", { name: this.name, state: word(state) });
  }
}

function* batches(waiting) {
  let batch = [];
  let bytes = 0;
  for (const one of waiting) {
    if (batch.length && bytes + one.file.size > BATCH_BYTES) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(one);
    bytes += one.file.size;
  }
  if (batch.length) yield batch;
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
