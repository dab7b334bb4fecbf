// The open conversation: its turns, asking, stopping, and picking up what is still being written.

import { Refused, call, conversationPath, get, messagePath, newKey } from "../assistant/api.js";
import * as agents from "./agents.js";
import { $, announce } from "../assistant/dom.js";
import { failure } from "../assistant/failure.js";
import * as history from "./history.js";
import { following, resumed } from "../assistant/stream.js";
import { Turn } from "../assistant/turn.js";

// What was asked and has no answer's id yet: after a reload the same key finds the answer.
const PENDING = "pending";

// The conversation in view (null: a new one), and the answer in view that is being written: {turn, messageId, leaving}.
let conversation = null;
let running = null;
// What was last to be shown: another conversation that comes late isn't.
let wanted = null;

export const openId = () => conversation?.conversation_id ?? null;

// Show a conversation, or the empty page for a new one.
export async function open(id) {
  leave();
  wanted = id;
  $("#turns").replaceChildren();
  name(null);
  history.mark(id);
  $("#welcome").hidden = Boolean(id);
  if (id) await load(id);
  else takeUpPending();
}

async function load(id) {
  try {
    const found = await get(conversationPath(id));
    if (wanted !== id) return;
    history.remember(found);
    history.refresh();
    name(found);
    agents.choose(found.agent_id);
    found.messages.forEach((message, index) => showStored(message, index === found.messages.length - 1));
    scrollTo(0, document.body.scrollHeight);
    takeUpPending();
  } catch (error) {
    if (error instanceof Refused && error.status === 404) history.forget(id);
    if (wanted === id) $("#turns").append(failure(error, () => open(id)));
  }
}

function name(found) {
  conversation = found;
  $("#conversation").hidden = !found;
  document.title = found ? `${found.title} - Assistant` : "Assistant";
  if (!found) return;
  $("#title").textContent = found.title;
  for (const format of ["markdown", "json"]) {
    $(`#export-${format}`).href = `${conversationPath(found.conversation_id)}/export?format=${format}`;
  }
}

function showStored(message, isLast) {
  const turn = added(message.message, message.agent_id);
  if (message.status === "running") {
    follow(turn, { messageId: message.message_id, open: (signal) => resumed(message.message_id, 0, signal) });
  } else {
    turn.show(message);
    if (message.error && isLast) turn.fail(message.error, () => ask(message.message, message.agent_id));
  }
}

function added(prompt, agentId) {
  const turn = new Turn(prompt, agents.nameOf(agentId), { follows: true });
  $("#welcome").hidden = true;
  $("#turns").append(turn.element);
  return turn;
}

export function ask(message, agentId) {
  const body = { message, agent_id: agentId };
  if (conversation) body.conversation_id = conversation.conversation_id;
  send({ key: newKey(), body });
}

function send(request) {
  sessionStorage.setItem(PENDING, JSON.stringify(request));
  const turn = added(request.body.message, request.body.agent_id);
  scrollTo(0, document.body.scrollHeight);
  follow(turn, { open: (signal) => begin(request, signal), again: () => ask(request.body.message, request.body.agent_id) });
}

// A person who leaves comes back to a whole answer, so it goes on without a reader.
function begin({ key, body }, signal) {
  const headers = { "Idempotency-Key": key };
  return call("/api/agent/chat?stream=true&on_disconnect=continue", { method: "POST", body, headers, signal });
}

function takeUpPending() {
  const request = JSON.parse(sessionStorage.getItem(PENDING) ?? "null");
  if (request && (request.body.conversation_id ?? null) === openId()) send(request);
}

// Show an answer as it comes, over as many connections as it takes. `again` asks anew.
async function follow(turn, { open: connect, messageId = null, again = null }) {
  const leaving = new AbortController();
  const answer = { turn, messageId, leaving };
  busy(answer);
  turn.begin();
  announce("The answer is on its way.");
  try {
    const events = following({
      open: () => connect(leaving.signal),
      messageId,
      signal: leaving.signal,
      onLost: () => turn.wait("Connection lost, trying again"),
    });
    for await (const event of events) {
      if (event.type === "start") await started(answer, event);
      turn.take(event);
    }
    await settle(turn, answer.messageId, again);
  } catch (error) {
    if (!leaving.signal.aborted) giveUp(answer, error, { connect, again });
  } finally {
    if (running === answer) busy(null);
  }
}

async function started(answer, { message_id, conversation_id }) {
  sessionStorage.removeItem(PENDING);
  const isNew = openId() !== conversation_id;
  answer.messageId = message_id;
  if (answer.wantsStop) stop();
  if (!isNew) return;
  const found = { conversation_id, title: answer.turn.part(".prompt").textContent.trim().slice(0, 80) };
  name(found);
  window.history.replaceState(null, "", `/?conversation=${encodeURIComponent(conversation_id)}`);
  history.remember(found);
  history.mark(conversation_id);
  history.refresh();
}

// Show what is stored of an answer that has ended: its numbers are the service's own.
async function settle(turn, messageId, again) {
  const message = await get(messagePath(messageId));
  turn.show(message);
  if (message.error) turn.fail(message.error, again ?? (() => ask(message.message, message.agent_id)));
  else announce(message.finish_reason === "cancelled" ? "Stopped." : `The answer: ${turn.part(".answer").innerText}`);
  if (openId() === message.conversation_id) history.remember({ ...conversation, updated_at: message.finished_at });
  history.refresh();
}

// An answer that has begun is followed again, another question is asked anew.
function giveUp({ turn, messageId }, error, { connect, again }) {
  if (error instanceof Refused) sessionStorage.removeItem(PENDING);
  turn.stopWaiting();
  const resume = () => follow(turn, { messageId, again, open: (signal) => resumed(messageId, 0, signal) });
  const retry = () => follow(turn, { again, open: connect });
  const unwise = error instanceof Refused && [400, 413].includes(error.status);
  turn.fail(error, unwise ? null : messageId ? resume : retry);
  if (unwise && !$("#message").value) $("#message").value = turn.part(".prompt").textContent;
}

function busy(answer) {
  running = answer;
  $("#turns").setAttribute("aria-busy", String(Boolean(answer)));
  const hadFocus = [$("#send"), $("#stop")].includes(document.activeElement);
  $("#send").hidden = Boolean(answer);
  $("#stop").hidden = !answer;
  if (hadFocus) $(answer ? "#stop" : "#message").focus();
}

// End the answer with what was said; before it has an id, as soon as it has.
export async function stop() {
  if (!running) return;
  const { turn, messageId } = running;
  if (!messageId) {
    running.wantsStop = true;
    return;
  }
  try {
    await call(`${messagePath(messageId)}/stop`, { method: "POST" });
  } catch (error) {
    turn.fail(error);
  }
}

function leave() {
  running?.leaving.abort();
  running?.turn.stopWaiting();
  busy(null);
}

export const isBusy = () => running !== null;

export async function rename(title) {
  const renamed = await history.rename(openId(), title);
  name({ ...conversation, ...renamed });
  history.refresh();
}

export async function remove() {
  leave();
  await history.remove(openId());
}
