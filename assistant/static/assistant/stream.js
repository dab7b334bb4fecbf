// Event streams: parse their frames, and follow an answer to its end over any number of connections.

import { Lost, Refused, call, messagePath } from "./api.js";

// The service sends a comment every 15 seconds; a connection that is silent for longer is dead.
const SILENCE = 40_000;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 5_000;
const TRIES = 30;
// Statuses after which a retry may succeed: another process writes the answer, too busy, stopping.
const PASSING = new Set([409, 429, 502, 503, 504]);

// Yield {id, event} for each frame of a response. Throws `Lost` if the connection breaks or closes before the last event.
export async function* frames(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let rest = ""; ; ) {
      const { done, value } = await inTime(reader.read());
      if (done) break;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const frame = parsed(part);
        if (frame) yield frame;
      }
    }
  } catch {
    // A broken or silent connection is handled like one that closes before the last event.
  } finally {
    reader.cancel().catch(() => {}); // it may be broken
  }
  throw new Lost("The connection was lost.");
}

function parsed(frame) {
  const fields = new Map(frame.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
  return fields.has("data") ? { id: Number(fields.get("id")), event: JSON.parse(fields.get("data")) } : null;
}

async function inTime(reading) {
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(reject, SILENCE);
  });
  try {
    return await Promise.race([reading, silence]);
  } finally {
    clearTimeout(timer);
  }
}

// Yield the events of an answer to its last one. `open` makes the first connection, `messageId` is known if the answer
// has begun; `onLost` is called when a connection breaks. Throws `Refused` and `Lost`.
export async function* following({ open, messageId = null, signal, onLost }) {
  let cursor = 0;
  let tries = 0;
  let response = await open();
  for (;;) {
    let wanted = null;
    try {
      response ??= await (messageId ? resumed(messageId, cursor, signal) : open());
      for await (const { id, event } of frames(response)) {
        tries = 0;
        cursor = id;
        messageId ??= event.message_id;
        yield event;
        if (event.type === "end" || event.type === "error") return;
      }
    } catch (error) {
      if (signal.aborted || !passes(error) || tries === TRIES) throw error;
      wanted = error.retryAfter;
    }
    response = null;
    onLost();
    await rest(wanted ? wanted * 1000 : Math.min(FIRST_PAUSE * 2 ** tries, LONGEST_PAUSE), signal);
    tries += 1;
  }
}

export function resumed(messageId, cursor, signal) {
  return call(`${messagePath(messageId)}/stream`, { headers: { "Last-Event-ID": String(cursor) }, signal });
}

function passes(error) {
  return error instanceof Lost || (error instanceof Refused && PASSING.has(error.status));
}

// Wait, at most until the browser is online again.
function rest(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const over = new AbortController();
    const wake = () => {
      clearTimeout(timer);
      over.abort();
      resolve();
    };
    const timer = setTimeout(wake, milliseconds);
    addEventListener("online", wake, { signal: over.signal });
    signal.addEventListener("abort", () => {
      wake();
      reject(signal.reason);
    }, { signal: over.signal });
  });
}
