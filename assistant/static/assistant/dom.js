// What all parts of the page share: its templates, the line that screen readers hear, and the clipboard.

export const $ = (selector, within = document) => within.querySelector(selector);

// Return the only element of a template, as a copy.
export function copyOf(name) {
  return $(`#${name}-template`).content.firstElementChild.cloneNode(true);
}

// Have a screen reader say this once it is done with what it says.
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

// The clipboard's own interface is there over TLS and on this machine alone.
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
