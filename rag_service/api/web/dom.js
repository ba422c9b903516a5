// Building pieces of the page. Text only ever goes in as text nodes: no string is parsed as HTML anywhere.

import { say, word } from "./words.js";

export function byId(id) {
  return document.getElementById(id);
}

/** An element with attributes and children; strings become text nodes. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** An element that says the words of `key` in the language of the page. */
export function spoken(tag, attributes, key, values) {
  return say(make(tag, attributes), key, values);
}

export function button(attributes, key, onClick) {
  const element = spoken("button", { type: "button", ...attributes }, key);
  element.addEventListener("click", onClick);
  return element;
}

/** Fill `place` with a problem and show it; null empties and hides it. */
export function showProblem(place, problem) {
  place.hidden = problem === null;
  place.replaceChildren(...(problem === null ? [] : [problemBox(problem)]));
}

export function problemBox(problem) {
  const box = make("div", { class: "problem" }, make("strong", {}, problem.title));
  if (problem.detail) box.append(make("p", {}, problem.detail));
  if (problem.retryAfterSeconds) {
    box.append(spoken("p", {}, "retryAfter", { seconds: problem.retryAfterSeconds }));
  }
  if (problem.instance) box.append(spoken("p", { class: "hint" }, "requestId", { id: problem.instance }));
  return box;
}

/** Tell a screen reader what changed elsewhere on the page. */
export function announce(key, values) {
  byId("announcer").textContent = word(key, values);
}
