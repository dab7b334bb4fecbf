// Who answers: the agents that the caller may use, and the one that was chosen last.

import { get } from "../assistant/api.js";
import { $ } from "../assistant/dom.js";

const KEY = "agent";
let agents = [];

export const all = () => agents;

export function nameOf(id) {
  return agents.find((agent) => agent.agent_id === id)?.name ?? id;
}

export function choose(id) {
  if (agents.some((agent) => agent.agent_id === id)) $("#agent").value = id;
  describe();
}

export async function load() {
  ({ agents } = await get("/api/agents"));
  $("#agent").replaceChildren(...agents.map(({ agent_id, name }) => new Option(name, agent_id)));
  choose(localStorage.getItem(KEY) ?? "default");
}

function describe() {
  $("#agent").title = agents.find((agent) => agent.agent_id === $("#agent").value)?.description ?? "";
}

$("#agent").addEventListener("change", () => {
  localStorage.setItem(KEY, $("#agent").value);
  describe();
});
