// Templates, announcements for screen readers, and the clipboard.

export const $ = (selector, within = document) => within.querySelector(selector);

// Return a copy of the only element of a template.
export function copyOf(name) {
  return $(`#${name}-template`).content.firstElementChild.cloneNode(true);
}

// Have screen readers announce a sentence after the current one.
export function announce(sentence) {
  $("#status").textContent = sentence;
}

export async function copy(text, button) {
  const label = button.textContent;
  button.textContent = (await copied(text)) ? "Copied" : "Can't copy";
  announce(button.textContent);
  setTimeout(() => {
    button.textContent = label;
  }, 1500);
}

// Browsers offer the clipboard API only over TLS and on localhost.
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

export function signInAddress() {
  const back = encodeURIComponent(location.pathname + location.search);
  return `${$("[data-sign-in]").dataset.signIn}?next=${back}`;
}

export const seconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`;
