// The admin's page of a conversation: renders the plain text of answers as Markdown.

import { Growing } from "./markdown.js";

for (const element of document.querySelectorAll(".answer")) {
  const text = element.textContent;
  element.replaceChildren();
  element.classList.remove("written");
  new Growing(element).render(text, true);
}
