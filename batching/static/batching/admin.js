// The admin's page of a batch, updated while the batch runs: over a WebSocket, or by polling if there is none.

const PAUSE = 1000; // ms between two polls, and before a reconnect
const WINDOW = 30; // s over which the rate is averaged, if items finished in them

const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const shown = (number) => number.toLocaleString(document.documentElement.lang);

function spoken(seconds) {
  if (seconds < 119.5) return `${Number(seconds.toPrecision(seconds < 1 ? 1 : 3))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// The recent rate of a batch.
class Pace {
  seen = [];

  take({ elapsed, counts }) {
    const done = counts.total - counts.queued - counts.running;
    this.seen.push({ elapsed, done });
    while (elapsed - this.seen[0].elapsed > WINDOW) this.seen.shift();
    const { elapsed: since, done: before } = this.seen[0];
    const lately = elapsed - since;
    this.rate = lately >= 2 && done > before ? (done - before) / lately : elapsed && done / elapsed;
    this.done = done;
    this.left = this.rate ? (counts.total - done) / this.rate : null;
  }
}

class Live {
  pace = new Pace();

  constructor(section) {
    this.section = section;
  }

  part(name) {
    return this.section.querySelector(`[data-live="${name}"]`);
  }

  say(name, text) {
    const part = this.part(name);
    if (part && part.textContent !== text) part.textContent = text;
  }

  show(state) {
    this.pace.take(state);
    const { counts } = state;
    const { done, rate, left } = this.pace;
    const percent = counts.total ? Math.floor((done * 100) / counts.total) : 100;
    this.say("status", state.status);
    this.say("percent", `${percent} %`);
    this.say("done", shown(done));
    this.say("rate", `${Number((rate || 0).toPrecision(3))} items/s`);
    this.say("elapsed", spoken(state.elapsed));
    this.say("left", left === null ? "-" : spoken(left));
    this.section.querySelector("[role=progressbar]").setAttribute("aria-valuenow", percent);
    this.draw(counts);
    this.part("failures").replaceChildren(...state.failures.map(failure));
  }

  draw(counts) {
    let before = 0;
    for (const segment of this.section.querySelectorAll("[data-segment]")) {
      const count = counts[segment.dataset.segment];
      const share = counts.total ? (count * 100) / counts.total : 0;
      segment.setAttribute("x", `${before}%`);
      segment.setAttribute("width", `${share}%`);
      before += share;
      this.section.querySelector(`[data-count="${segment.dataset.segment}"]`).textContent = shown(count);
    }
  }
}

function failure({ status, reason, count }) {
  const [line, link, number] = ["li", "a", "b"].map((name) => document.createElement(name));
  link.href = `?${new URLSearchParams({ state: "failed", status })}#batching-items`;
  link.textContent = `${status} ${reason}`;
  number.textContent = shown(count);
  line.append(link, " ", number);
  return line;
}

// Each of these passes on states until its connection ends, and returns whether it was of use.

function listen(path, tell) {
  return new Promise((done) => {
    const socket = new WebSocket(path);
    let useful = false;
    socket.onmessage = ({ data }) => {
      useful = true;
      tell(JSON.parse(data));
    };
    socket.onclose = () => done(useful);
  });
}

async function ask(path, tell) {
  try {
    const response = await fetch(path, { redirect: "manual", headers: { Accept: "application/json" } });
    if (response.ok) tell(await response.json());
    return response.ok || response.status >= 500;
  } catch {
    return true; // the server may come back
  }
}

async function watch(section) {
  const live = new Live(section);
  const { socket, poll } = section.dataset;
  const page = new URL(socket, location.href);
  page.protocol = page.protocol.replace("http", "ws");
  let last = {};
  const tell = (state) => live.show((last = state));
  let connects = true;
  while (!last.is_final) {
    connects = connects && (await listen(page, tell));
    if (!connects && !(await ask(poll, tell))) {
      live.say("note", "Live updates have stopped: reload the page.");
      return;
    }
    if (!last.is_final) await wait(PAUSE);
  }
  await renew(live);
}

// Replace the rest of the page by its final state, unless the user is reading an item.
async function renew(live) {
  if (document.querySelector("#content details[open] pre")) {
    live.say("note", "The batch has ended. Reload the page to see the final items.");
    return;
  }
  const response = await fetch(location.href).catch(() => null);
  if (!response?.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  document.querySelector("#content").replaceWith(page.querySelector("#content"));
  prepare();
}

function prepare() {
  for (const form of document.querySelectorAll("form[data-confirm]")) {
    form.addEventListener("submit", (event) => {
      if (!confirm(form.dataset.confirm)) event.preventDefault();
    });
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.nextElementSibling.textContent = "Copied.";
    });
  }
}

prepare();
const section = document.querySelector("#batching-live[data-socket]");
if (section) watch(section);
