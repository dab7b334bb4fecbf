// One turn: the question, and the answer as it is written.

import { $, copyOf, seconds } from "./dom.js";
import { failure } from "./failure.js";
import { Growing } from "./markdown.js";

const ENDINGS = { cancelled: "Stopped.", length: "Cut off at the agent's maximum length." };
// The text of the search tool's result: "1. Title - text", with the address on the next line.
const SOURCE = /^\d+\. (.+?) - .*\n\s+(https?:\/\/\S+)$/gm;
// Rendering takes at most this share of the page's time.
const SHARE = 0.25;

export class Turn {
  // `follows`: a page that is scrolled to its end stays there while the answer grows.
  constructor(prompt, agent, { follows = false } = {}) {
    this.element = copyOf("turn");
    this.follows = follows;
    this.text = "";
    this.hasEnded = false;
    this.part(".prompt").textContent = prompt;
    this.part(".who").textContent = agent;
    this.tools = new Map();
    this.answer = new Growing(this.part(".answer"));
  }

  part(selector) {
    return $(selector, this.element);
  }

  // Show progress until the first token.
  wait(word = "Thinking") {
    const began = performance.now();
    const tell = () => {
      const passed = Math.floor((performance.now() - began) / 1000);
      this.part(".elapsed").textContent = passed ? `${word}\u2026 ${passed} s` : `${word}\u2026`;
    };
    this.stopWaiting();
    this.part(".waiting").hidden = false;
    this.clock = setInterval(tell, 1000);
    tell();
  }

  stopWaiting() {
    clearInterval(this.clock);
    this.part(".waiting").hidden = true;
  }

  // Reset the turn, to show an answer from its first event.
  begin() {
    this.part(".failure")?.remove();
    this.part(".tools").replaceChildren();
    this.tools.clear();
    this.text = "";
    this.hasEnded = false;
    this.render();
    this.wait();
  }

  take(event) {
    switch (event.type) {
      case "token":
        this.stopWaiting();
        this.text += event.content;
        this.renderSoon();
        break;
      case "tool_call":
        this.call(event);
        this.wait(`Using ${event.name}`);
        break;
      case "tool_result":
        this.call(event);
        this.wait();
        break;
      case "end":
        this.end(event.finish_reason);
        break;
      case "error":
        this.end();
    }
  }

  renderSoon() {
    this.timer ??= setTimeout(() => {
      const began = performance.now();
      this.render();
      this.pause = (performance.now() - began) / SHARE;
    }, this.pause ?? 0);
  }

  render() {
    clearTimeout(this.timer);
    this.timer = null;
    this.change(() => this.answer.render(this.text, this.hasEnded));
  }

  change(show) {
    const stays = this.follows && atEnd();
    show();
    if (stays) scrollTo(0, document.body.scrollHeight);
  }

  end(reason) {
    this.hasEnded = true;
    this.stopWaiting();
    this.render();
    this.part(".ending").textContent = ENDINGS[reason] ?? "";
    this.part(".ending").hidden = !ENDINGS[reason];
    this.showSources();
  }

  // Show a stored turn; a running one is shown by its stream.
  show(message) {
    this.text = message.response;
    message.tool_calls.forEach((each) => this.call(each));
    this.change(() => {
      this.end(message.finish_reason);
      const said = numbers(message);
      this.part(".numbers").textContent = said;
      this.part(".numbers").hidden = !said;
    });
    if (message.error) this.fail(message.error);
  }

  call({ tool_call_id, name, parameters, result, status }) {
    const tool = this.tools.get(tool_call_id) ?? { name, element: copyOf("tool") };
    this.tools.set(tool_call_id, tool);
    this.part(".tools").append(tool.element);
    $(".tool-name", tool.element).textContent = name;
    $(".tool-state", tool.element).textContent = { completed: "done", failed: "failed" }[status] ?? "running";
    if (parameters) $(".parameters", tool.element).textContent = JSON.stringify(parameters, null, 2);
    if (result === undefined) return;
    tool.result = result;
    $(".result", tool.element).textContent = result;
    $(".result", tool.element).hidden = $(".result-title", tool.element).hidden = false;
  }

  showSources() {
    const found = [...this.tools.values()].filter((tool) => tool.name === "search" && tool.result);
    const links = new Map(found.flatMap(({ result }) => [...result.matchAll(SOURCE)].map(([, title, url]) => [url, title])));
    this.part(".sources").hidden = links.size === 0;
    this.part(".sources").replaceChildren(...[...links].map(([url, title]) => source(url, title)));
  }

  // Show an error; `again` is called to retry.
  fail(error, again = null) {
    this.stopWaiting();
    this.part(".failure")?.remove();
    this.change(() => this.element.append(failure(error, again)));
  }
}

function source(url, title) {
  const link = Object.assign(document.createElement("a"), { href: url, target: "_blank", rel: "noopener noreferrer" });
  link.textContent = title;
  link.dir = "auto";
  const item = document.createElement("li");
  item.append(link);
  return item;
}

function numbers({ usage, time_to_first_token: first, processing_time: all, model }) {
  if (all === null) return "";
  const parts = [`${usage.input_tokens} tokens in`, `${usage.output_tokens} out`];
  if (first !== null) {
    parts.push(`first after ${seconds(first)}`);
    if (all > first && usage.output_tokens > 1) parts.push(`${(usage.output_tokens / (all - first)).toFixed(1)} tokens/s`);
  }
  return [...parts, `${seconds(all)} in all`, model].filter(Boolean).join(" \u00b7 ");
}

function atEnd() {
  return innerHeight + scrollY >= document.body.scrollHeight - 80;
}
