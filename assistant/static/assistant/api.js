// Calls of the service's API.

// The service refused the call; the message is its own sentence for a person.
export class Refused extends Error {
  constructor(message, status, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

// The response didn't arrive, or broke off.
export class Lost extends Error {}

// Django's CSRF token, which calls with a session need. A project may hide the cookie from scripts, or use another one.
function csrfToken() {
  const cookie = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
  return cookie ?? document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";
}

async function refusal(response) {
  const said = await response.json().catch(() => ({}));
  const sentence = said.error ?? `The service answered with status ${response.status}.`;
  return new Refused(sentence, response.status, Number(response.headers.get("Retry-After")) || null);
}

// Return the response to a call. Throws `Refused`, `Lost`, or an AbortError when `signal` is aborted.
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

// The prefix of the API; the page gives it if it isn't /api/.
export const API = document.querySelector("[data-api]")?.dataset.api ?? "/api/";
export const conversationPath = (id) => `${API}conversations/${encodeURIComponent(id)}`;
export const messagePath = (id) => `${API}agent/messages/${encodeURIComponent(id)}`;

// A random key, also without TLS, which crypto.randomUUID requires.
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
