// Several questions to several agents as one streamed batch, side by side.

import { Lost, Refused, call, get, messagePath } from "../assistant/api.js";
import * as agents from "./agents.js";
import { $, announce, copyOf, seconds } from "../assistant/dom.js";
import { failure } from "../assistant/failure.js";
import * as history from "./history.js";
import { codeBlock } from "../assistant/markdown.js";
import { asCurl, asPython } from "./snippets.js";
import { frames } from "../assistant/stream.js";
import { Turn } from "../assistant/turn.js";

const PATH = "/api/batch?stream=true";

// Of the batch that runs: a column for each item by its id, and whether it is to stop.
let columns = new Map();
let stopping = false;

export function showAgents() {
  $("#agents").replaceChildren(...agents.all().map(choice));
  count();
}

function choice({ agent_id, name }, index) {
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", value: agent_id, checked: index < 2 });
  label.append(box, ` ${name}`);
  return label;
}

const questions = () => $("#questions").value.split("\n").map((line) => line.trim()).filter(Boolean);
const chosen = () => [...$("#agents").querySelectorAll(":checked")].map((box) => box.value);

function items() {
  const pairs = questions().flatMap((message) => chosen().map((agent_id) => ({ message, agent_id, stream: true })));
  return pairs.map((body, index) => ({ id: `answer_${index + 1}`, method: "POST", path: "/api/agent/chat", body }));
}

function count() {
  const [asked, answering] = [questions().length, chosen().length];
  $("#count").textContent = `${asked} \u00d7 ${answering} = ${asked * answering} answers`;
  $("#ask-all").disabled = asked * answering === 0;
}

async function askAll() {
  const requests = items();
  columns = new Map(requests.map((item) => [item.id, new Column(item)]));
  stopping = false;
  $("#columns").style.setProperty("--most", chosen().length > 1 ? Math.min(chosen().length, 4) : 3);
  $("#columns").replaceChildren(...[...columns.values()].map((column) => column.element));
  $("#several .failures").replaceChildren();
  $("#totals").hidden = true;
  busy(true);
  showCalls({ requests });
  announce(`Asking for ${requests.length} answers.`);
  try {
    await follow({ requests });
  } catch (error) {
    const unwise = error instanceof Refused && [400, 413].includes(error.status);
    $("#several .failures").append(failure(error, unwise ? null : askAll));
    for (const column of columns.values()) column.lose();
  }
  busy(false);
  history.refresh();
}

async function follow(body) {
  for await (const { event } of frames(await call(PATH, { method: "POST", body }))) {
    if (event.type === "item") columns.get(event.id).take(event.event);
    if (event.type === "response") columns.get(event.id).close(event);
    if (event.type === "error") throw new Lost(event.message);
    if (event.type === "end") return sum(event);
  }
}

function sum({ total_processing_time: all, counts }) {
  const apart = [...columns.values()].reduce((time, column) => time + column.time, 0);
  const failed = counts.failed ? `, ${counts.failed} failed` : "";
  const sentence = `${counts.succeeded} answered${failed}, all in ${seconds(all)}; their times add up to ${seconds(apart)}.`;
  $("#totals").textContent = sentence;
  $("#totals").hidden = false;
  announce(sentence);
}

function busy(is) {
  $("#ask-all").hidden = is;
  $("#stop-all").hidden = !is;
  $("#columns").setAttribute("aria-busy", String(is));
}

function stopAll() {
  stopping = true;
  for (const column of columns.values()) column.stop();
}

class Column {
  constructor({ body }) {
    this.element = copyOf("column");
    this.turn = new Turn(body.message, agents.nameOf(body.agent_id));
    this.time = 0;
    this.hasEnded = false;
    this.element.setAttribute("aria-label", `${agents.nameOf(body.agent_id)}: ${body.message}`);
    $(".column-agent", this.element).textContent = agents.nameOf(body.agent_id);
    this.turn.part(".who").classList.add("unseen");
    this.element.append(this.turn.element);
    this.turn.wait();
  }

  take(event) {
    this.turn.take(event);
    if (event.type !== "start") return;
    this.messageId = event.message_id;
    const { conversation_id } = event;
    history.remember({ conversation_id, title: this.turn.part(".prompt").textContent.slice(0, 80) });
    this.link(conversation_id);
    if (stopping) this.stop();
  }

  link(conversationId) {
    const link = Object.assign(document.createElement("a"), { href: `/?conversation=${encodeURIComponent(conversationId)}` });
    link.textContent = "Go on from here";
    this.element.append(link);
  }

  async close({ status, error, processing_time }) {
    this.hasEnded = true;
    this.time = processing_time;
    $(".column-time", this.element).textContent = seconds(processing_time);
    if (this.messageId) {
      const message = await get(messagePath(this.messageId)).catch(() => null);
      if (message) return this.turn.show(message);
    }
    if (status >= 400) this.turn.fail({ message: error });
  }

  // Keep what there is of an answer whose batch broke off.
  lose() {
    this.turn.stopWaiting();
    if (!this.messageId) this.element.remove();
  }

  async stop() {
    if (!this.messageId || this.hasEnded) return;
    await call(`${messagePath(this.messageId)}/stop`, { method: "POST" }).catch((error) => this.turn.fail(error));
  }
}

function showCalls(body) {
  $("#calls").hidden = false;
  const url = location.origin + PATH;
  const withKey = "signedIn" in document.body.dataset;
  const shown = [codeBlock(asCurl(url, body, withKey), "bash"), codeBlock(asPython(url, body, withKey), "python")];
  $("#snippets").replaceChildren(...shown);
}

$("#batch").addEventListener("input", count);
$("#questions").addEventListener("keydown", (key) => {
  if (key.key === "Enter" && (key.ctrlKey || key.metaKey)) $("#batch").requestSubmit();
});
$("#batch").addEventListener("submit", (submit) => {
  submit.preventDefault();
  if (!$("#ask-all").disabled && !$("#ask-all").hidden) askAll();
});
$("#stop-all").addEventListener("click", stopAll);
