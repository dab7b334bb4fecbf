// The page: which part of it is in view, and what its buttons do.

import * as agents from "./agents.js";
import * as chat from "./chat.js";
import { $, announce, copy, signInAddress } from "../assistant/dom.js";
import { failure } from "../assistant/failure.js";
import * as history from "./history.js";
import * as several from "./several.js";

async function start() {
  const shown = look();
  history.refresh();
  try {
    await agents.load();
    several.showAgents();
    await route();
    $("#send").disabled = false;
  } catch (error) {
    $(".failures", shown).replaceChildren(failure(error, start));
  }
}

// Have in view what the address names, and return it.
function look() {
  const isSeveral = new URLSearchParams(location.search).has("several");
  $("#several").hidden = !isSeveral;
  $("#chat").hidden = isSeveral;
  if (isSeveral) $("#to-several").setAttribute("aria-current", "page");
  else $("#to-several").removeAttribute("aria-current");
  history.mark(isSeveral ? null : chat.openId());
  for (const link of document.querySelectorAll("aside .sign-in")) link.href = signInAddress();
  closeMenu();
  return $(isSeveral ? "#several" : "#chat");
}

async function route() {
  if (look() === $("#several")) $("#questions").focus();
  else await show(new URLSearchParams(location.search).get("conversation"));
}

async function show(id) {
  if (!id || id !== chat.openId()) await chat.open(id);
  $("#message").focus({ preventScroll: true });
}

// Links within the page change what is in view and load nothing.
document.addEventListener("click", (click) => {
  if (!click.target.closest(".menu")) $(".menu").open = false;
  const link = click.target.closest("a");
  const isOurs = link?.pathname === "/" && link.origin === location.origin && !link.hash;
  if (!isOurs || click.defaultPrevented || click.button || click.metaKey || click.ctrlKey || click.shiftKey) return;
  click.preventDefault();
  window.history.pushState(null, "", link.href);
  route();
});
addEventListener("popstate", route);

// Asking.

const message = $("#message");

$("#ask").addEventListener("submit", (submit) => {
  submit.preventDefault();
  if ($("#send").disabled || chat.isBusy() || !message.value.trim()) return;
  chat.ask(message.value, $("#agent").value);
  message.value = "";
  grow();
});

message.addEventListener("keydown", (key) => {
  const wantsLine = key.shiftKey || key.isComposing || matchMedia("(pointer: coarse)").matches;
  if (key.key === "Enter" && !wantsLine) {
    key.preventDefault();
    $("#ask").requestSubmit();
  }
});

message.addEventListener("input", grow);

function grow() {
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight + 2}px`;
}

$("#stop").addEventListener("click", chat.stop);
document.addEventListener("keydown", (key) => {
  if (key.key !== "Escape" || $("dialog[open]")) return;
  if ($(".menu").open) closeActions();
  else if (document.body.classList.contains("menu-open")) closeMenu(true);
  else chat.stop();
});

// What can be done with a conversation.

$("#copy-link").addEventListener("click", ({ target }) => copy(location.href, target));

function closeActions() {
  $(".menu").open = false;
  $(".menu summary").focus();
}

// Return whether the dialog was left by its first button.
async function agreed(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => {
    dialog.addEventListener("close", resolve, { once: true });
  });
  return dialog.returnValue === "yes";
}

$("#rename").addEventListener("click", () => {
  $("#new-title").value = $("#title").textContent;
  act(async () => {
    const title = (await agreed($("#rename-dialog"))) && $("#new-title").value.trim();
    if (!title) return;
    await chat.rename(title);
    announce("Renamed.");
  });
});

$("#delete").addEventListener("click", () => {
  act(async () => {
    if (!(await agreed($("#delete-dialog")))) return;
    await chat.remove();
    window.history.replaceState(null, "", "/");
    await route();
    history.refresh();
    announce("Deleted.");
  });
});

async function act(work) {
  $(".menu").open = false;
  try {
    await work();
  } catch (error) {
    $("#chat .failures").replaceChildren(failure(error, () => act(work)));
  }
}

// The list of conversations on a narrow screen, and the numbers under answers.

function closeMenu(backToButton = false) {
  document.body.classList.remove("menu-open");
  $("#menu").setAttribute("aria-expanded", "false");
  if (backToButton) $("#menu").focus();
}

$("#menu").addEventListener("click", () => {
  const isOpen = document.body.classList.toggle("menu-open");
  $("#menu").setAttribute("aria-expanded", String(isOpen));
});

function showNumbers() {
  document.body.classList.toggle("with-numbers", $("#numbers").checked);
}

$("#numbers").checked = localStorage.getItem("numbers") === "yes";
$("#numbers").addEventListener("change", () => {
  localStorage.setItem("numbers", $("#numbers").checked ? "yes" : "no");
  showNumbers();
});
showNumbers();
start();
