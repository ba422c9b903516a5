// The REST contract, seen from the page: calls with the bearer key, problems, server-sent events.

import { word } from "./words.js";

const STORED_KEY = "youju.key";

/** What a failed call throws: title, detail and data of an application/problem+json body. */
export class Problem extends Error {
  constructor({ title, detail = "", status = 0, instance = "", retryAfterSeconds = null }) {
    super(title);
    Object.assign(this, { title, detail, status, instance, retryAfterSeconds });
  }
}

export class Client {
  /** `onLocked` is called whenever the service wants a key, or a better one. */
  constructor(onLocked) {
    this.onLocked = onLocked;
    this.key = sessionStorage.getItem(STORED_KEY) ?? "";
  }

  useKey(key) {
    this.key = key;
    if (key) sessionStorage.setItem(STORED_KEY, key);
    else sessionStorage.removeItem(STORED_KEY);
  }

  async get(path) {
    return (await this.#call("GET", path)).json();
  }

  async post(path, body) {
    return (await this.#call("POST", path, jsonBody(body))).json();
  }

  async upload(path, form) {
    return (await this.#call("POST", path, { body: form })).json();
  }

  async delete(path) {
    await this.#call("DELETE", path);
  }

  /** All items of a list, over its pages. */
  async all(path) {
    const items = [];
    let cursor = "";
    do {
      const page = await this.get(`${path}?limit=200${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
      items.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor);
    return items;
  }

  /** Yield {event, data} as they arrive; ends when the server ends, throws AbortError when `signal` says so. */
  async *stream(path, body, signal) {
    const response = await this.#call("POST", path, { ...jsonBody(body), signal });
    yield* serverSentEvents(response.body);
  }

  async #call(method, path, { headers = {}, body, signal } = {}) {
    const authorization = this.key ? { Authorization: `Bearer ${this.key}` } : {};
    let response;
    try {
      response = await fetch(path, { method, body, signal, headers: { ...headers, ...authorization } });
    } catch (error) {
      throw unlessAborted(error);
    }
    if (response.status === 401) this.onLocked();
    if (!response.ok) throw await problemOf(response);
    return response;
  }
}

/** Any error as a Problem, so that whoever shows one has a title and a detail. */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  console.error(error); // a fault of the page itself
  return new Problem({ title: error.name, detail: error.message });
}

/** The address of a resource: relative, so that the page also works under a path prefix. */
export function at(strings, ...ids) {
  return String.raw({ raw: strings }, ...ids.map(encodeURIComponent));
}

function jsonBody(body) {
  return { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

function unlessAborted(error) {
  if (error.name === "AbortError") return error;
  return new Problem({ title: word("problemNetwork"), detail: word("problemNetworkDetail") });
}

async function problemOf(response) {
  const text = await response.text();
  const retryAfterSeconds = response.headers.get("Retry-After");
  const fallback = { title: word("problemStatus", { status: response.status }), status: response.status };
  return new Problem({ ...fallback, ...parsedObject(text), retryAfterSeconds });
}

function parsedObject(text) {
  // A proxy in between answers in HTML: then the status has to do.
  try {
    const value = JSON.parse(text);
    return typeof value.title === "string" ? value : {};
  } catch {
    return {};
  }
}

async function* serverSentEvents(body) {
  let fields = { event: "message", data: [] };
  for await (const line of linesOf(body)) {
    if (line === "") {
      if (fields.data.length) yield { event: fields.event, data: JSON.parse(fields.data.join("\n")) };
      fields = { event: "message", data: [] };
    } else {
      takeField(fields, line);
    }
  }
}

function takeField(fields, line) {
  const colon = line.indexOf(":");
  if (colon === 0) return; // a comment: the ping that keeps the connection open
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (name === "event") fields.event = value;
  if (name === "data") fields.data.push(value);
}

async function* linesOf(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await readChunk(reader);
      rest += decoder.decode(value, { stream: !done });
      // A carriage return at the very end may be the first half of a line end that is still under way.
      const complete = done ? rest.length : rest.length - (rest.endsWith("\r") ? 1 : 0);
      const lines = rest.slice(0, complete).split(/\r\n|\n|\r/);
      rest = lines.pop() + rest.slice(complete);
      yield* lines;
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {}); // the server hears that nobody listens any more; if it is gone, so be it
  }
}

async function readChunk(reader) {
  try {
    return await reader.read();
  } catch (error) {
    throw unlessAborted(error);
  }
}
