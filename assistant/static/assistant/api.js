// The service's API, called as any other page of its origin would.

// The service refused; the message is its own sentence for a person.
export class Refused extends Error {
  constructor(message, status, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

// No answer came, or not all of it.
export class Lost extends Error {}

// A caller with a session has to show Django's CSRF token; a project may keep it where no script reads it, or elsewhere.
function csrfToken() {
  const cookie = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
  return cookie ?? document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";
}

async function refusal(response) {
  const said = await response.json().catch(() => ({}));
  const sentence = said.error ?? `The service answered with status ${response.status}.`;
  return new Refused(sentence, response.status, Number(response.headers.get("Retry-After")) || null);
}

// Return the response to a call. Throws `Refused`, `Lost`, or an AbortError where `signal` says so.
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  if (method !== "GET") headers = { ...headers, "X-CSRFToken": csrfToken() };
  if (body) headers = { ...headers, "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    throw signal?.aborted ? error : new Lost("The service can't be reached.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

export async function get(path, options) {
  return (await call(path, options)).json();
}

// Where a project has put the API; the page says so where it isn't at /api/.
export const API = document.querySelector("[data-api]")?.dataset.api ?? "/api/";
export const conversationPath = (id) => `${API}conversations/${encodeURIComponent(id)}`;
export const messagePath = (id) => `${API}agent/messages/${encodeURIComponent(id)}`;

// Random, also where a page isn't served over TLS, which crypto.randomUUID wants.
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
