// Where the page is put together: the language, the door with the API key, the library, the conversation.

import { Client, asProblem } from "./client.js";
import { Conversation } from "./conversation.js";
import { byId, showProblem } from "./dom.js";
import { Library } from "./library.js";
import { Reader } from "./reader.js";
import { preferredLanguage, rememberLanguage, useLanguage } from "./words.js";

const WIDE = window.matchMedia("(min-width: 60rem)");

const client = new Client(showDoor);
const conversation = new Conversation(client, new Reader(client), foldLibraryWhereRoomIsShort);
const library = new Library(client, (knowledgeBaseId) => conversation.begin(knowledgeBaseId));

listenForLanguage();
listenForKey();
keepLibraryOpenWhereThereIsRoom();
enter();

async function enter() {
  try {
    await library.open();
    showDesk();
  } catch (error) {
    if (error.status !== 401) showProblem(byId("start-problem"), asProblem(error));
  }
}

function showDesk() {
  showProblem(byId("start-problem"), null);
  byId("door").hidden = true;
  byId("desk").hidden = false;
  byId("forget-key").hidden = client.key === "";
}

function showDoor() {
  byId("key-refused").hidden = client.key === "";
  byId("door").hidden = false;
  byId("desk").hidden = true;
  byId("forget-key").hidden = true;
  byId("key").focus();
}

function listenForKey() {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    client.useKey(byId("key").value);
    byId("key-form").reset();
    enter();
  });
  byId("forget-key").addEventListener("click", () => {
    client.useKey("");
    conversation.begin(null);
    enter();
  });
}

function listenForLanguage() {
  useLanguage(preferredLanguage());
  for (const choice of document.querySelectorAll("[data-language]")) {
    choice.addEventListener("click", () => {
      useLanguage(choice.dataset.language);
      rememberLanguage(choice.dataset.language);
    });
  }
}

function foldLibraryWhereRoomIsShort() {
  byId("library").open = WIDE.matches;
}

function keepLibraryOpenWhereThereIsRoom() {
  const library = byId("library");
  const follow = () => {
    library.querySelector("summary").tabIndex = WIDE.matches ? -1 : 0;
    if (WIDE.matches) library.open = true;
  };
  WIDE.addEventListener("change", follow);
  library.addEventListener("toggle", follow);
  follow();
}
