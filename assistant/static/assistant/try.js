// The admin's page of an agent: ask it over the public API, and show the answer as it is written.

import { API, call, get, messagePath, newKey } from "./api.js";
import { $, announce } from "./dom.js";
import { following } from "./stream.js";
import { Turn } from "./turn.js";

const section = $("#try");
const message = $("#try-message");
let running = null;

async function ask(question) {
  const turn = new Turn(question, section.dataset.name);
  $("#try-turns").append(turn.element);
  const answer = (running = { turn, messageId: null });
  busy(true);
  turn.begin();
  announce("The answer is on its way.");
  try {
    for await (const event of events(answer, question)) {
      if (event.type === "start") started(answer, event);
      turn.take(event);
    }
    await settle(answer, question);
  } catch (error) {
    turn.fail(error, () => ask(question));
  }
  running = null;
  busy(false);
}

function events({ turn }, question) {
  const { signal } = new AbortController();
  const body = { message: question, agent_id: section.dataset.agent };
  const headers = { "Idempotency-Key": newKey() };
  const open = () => call(`${API}agent/chat?stream=true`, { method: "POST", body, headers, signal });
  return following({ open, signal, onLost: () => turn.wait("Connection lost, trying again") });
}

function started(answer, { message_id, conversation_id }) {
  answer.messageId = message_id;
  if (answer.wantsStop) stop();
  if (section.dataset.conversation) answer.turn.element.append(link(conversation_id));
}

// The admin quotes an underscore in an address as _5F.
function link(conversationId) {
  const href = section.dataset.conversation.replace("CONVERSATION-ID", conversationId.replaceAll("_", "_5F"));
  return Object.assign(document.createElement("a"), { href, textContent: "Open the conversation" });
}

async function settle({ turn, messageId }, question) {
  const stored = await get(messagePath(messageId));
  turn.show(stored);
  if (stored.error) turn.fail(stored.error, () => ask(question));
  else announce(stored.finish_reason === "cancelled" ? "Stopped." : `The answer: ${turn.part(".answer").innerText}`);
}

function busy(is) {
  const hadFocus = [$("#try-ask"), $("#try-stop")].includes(document.activeElement);
  $("#try-turns").setAttribute("aria-busy", String(is));
  $("#try-ask").hidden = is;
  $("#try-stop").hidden = !is;
  if (hadFocus) (is ? $("#try-stop") : message).focus();
}

async function stop() {
  if (!running?.messageId) {
    if (running) running.wantsStop = true;
    return;
  }
  const { turn, messageId } = running;
  await call(`${messagePath(messageId)}/stop`, { method: "POST" }).catch((error) => turn.fail(error));
}

$("#try-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  if (running || !message.value.trim()) return;
  ask(message.value);
  message.value = "";
});
message.addEventListener("keydown", (key) => {
  if (key.key === "Enter" && (key.ctrlKey || key.metaKey)) $("#try-form").requestSubmit();
});
section.addEventListener("keydown", (key) => {
  if (key.key === "Escape") stop();
});
$("#try-stop").addEventListener("click", stop);
$("#agent_form").addEventListener("input", () => {
  $("#try-unsaved").hidden = false;
});
