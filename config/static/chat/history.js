// The list of conversations: the service's for who has signed in, this browser's own for who hasn't.

import { Refused, call, conversationPath, get } from "../assistant/api.js";
import { $, announce } from "../assistant/dom.js";

const signedIn = "signedIn" in document.body.dataset;
const KEY = "conversations";
const MOST = 200;
const TYPING = 200;

let next = null;
let asked = 0;
let current = null;

const own = {
  read: () => JSON.parse(localStorage.getItem(KEY) ?? "[]"),
  write(list) {
    const newest = list.toSorted((one, other) => (one.updated_at < other.updated_at ? 1 : -1)).slice(0, MOST);
    localStorage.setItem(KEY, JSON.stringify(newest));
  },
  without: (id) => own.read().filter((each) => each.conversation_id !== id),
};

// Keep a conversation in this browser if the server lists none for the caller.
export function remember({ conversation_id, title, updated_at = new Date().toISOString() }) {
  if (!signedIn) own.write([{ conversation_id, title, updated_at }, ...own.without(conversation_id)]);
}

export function forget(id) {
  if (!signedIn) own.write(own.without(id));
}

export async function rename(id, title) {
  const renamed = await (await call(conversationPath(id), { method: "PATCH", body: { title } })).json();
  if (!signedIn) own.write(own.read().map((each) => (each.conversation_id === id ? { ...each, title: renamed.title } : each)));
  return renamed;
}

export async function remove(id) {
  await call(conversationPath(id), { method: "DELETE" }).catch((error) => {
    if (!(error instanceof Refused && error.status === 404)) throw error;
  });
  forget(id);
}

export function mark(id) {
  current = id;
  for (const link of $("#conversations").querySelectorAll("a")) {
    if (link.dataset.id === id) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

// Show the list, as it is searched; what was asked before and answers later is passed over.
export async function refresh() {
  const turn = (asked += 1);
  const query = $("#search").value.trim();
  try {
    const page = signedIn ? await get(`/api/conversations?${new URLSearchParams({ page_size: 30, q: query })}`) : remembered(query);
    if (turn === asked) show(page, query);
  } catch (error) {
    if (turn === asked) tell(error.message);
  }
}

function remembered(query) {
  const words = query.toLowerCase().split(/\s+/);
  return { results: own.read().filter(({ title }) => words.every((word) => title.toLowerCase().includes(word))) };
}

function show(page, query) {
  $("#conversations").replaceChildren();
  add(page);
  tell(page.results.length ? "" : query ? "Nothing was found." : "No conversations yet.");
  if (query) announce(`${page.results.length} conversations found`);
}

function add({ results, next: following = null }) {
  $("#conversations").append(...results.map(item));
  next = following && `/api/conversations${new URL(following).search}`;
  $("#more").hidden = !next;
  mark(current);
}

function tell(sentence) {
  $("#no-conversations").textContent = sentence;
  $("#no-conversations").hidden = !sentence;
}

function item({ conversation_id, title, updated_at }) {
  const link = document.createElement("a");
  link.href = `/?conversation=${encodeURIComponent(conversation_id)}`;
  link.dataset.id = conversation_id;
  link.dir = "auto";
  link.textContent = title || "Without a name";
  link.title = `${link.textContent}\n${new Date(updated_at).toLocaleString()}`;
  const element = document.createElement("li");
  element.append(link);
  return element;
}

let typing;
$("#search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(refresh, TYPING);
});
$("#more").addEventListener("click", async () => {
  try {
    add(await get(next));
  } catch (error) {
    tell(error.message);
  }
});
