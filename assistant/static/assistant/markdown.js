// Markdown of a model, which is untrusted: rendered while it grows, and sanitized.

import DOMPurify from "./vendor/dompurify/purify.js";
import hljs from "./vendor/highlight/highlight.js";
import { Marked } from "./vendor/marked/marked.js";
import { copy, copyOf } from "./dom.js";

const TAGS = (
  "a b blockquote br code del em h3 h4 h5 h6 hr i kbd li ol p pre s strong sub sup table tbody td th thead tr ul"
).split(" ");
const HARMLESS = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ["align", "class", "href", "start", "title"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  // No relative links: a model's link never leads into this service.
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ADD_URI_SAFE_ATTR: ["align", "start"],
  RETURN_DOM_FRAGMENT: true,
};
const LANGUAGE = /^language-([\w+#.-]+)$/;
// Longer code isn't highlighted, so that the page doesn't hang.
const LONGEST_COLOURED = 50_000;

// Of a model's HTML only these tags, without attributes, are rendered; the rest is shown as text.
const BARE = /&#60;(\/?(?:b|br|code|del|em|i|kbd|s|strong|sub|sup))\s*\/?&#62;/gi;

const escaped = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const marked = new Marked({
  renderer: {
    // A fetched image would tell its host who reads the page.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || "Image")}</a>`,
    html: ({ text }) => escaped(text).replace(BARE, "<$1>"),
    checkbox: ({ checked }) => (checked ? "\u2611 " : "\u2610 "),
    // Headings start below those of the page.
    heading({ tokens, depth }) {
      const name = `h${Math.min(Math.max(depth, 2) + 1, 6)}`;
      return `<${name}>${this.parser.parseInline(tokens)}</${name}>`;
    },
  },
});

DOMPurify.addHook("uponSanitizeAttribute", (_, attribute) => {
  if (attribute.attrName === "class") attribute.keepAttr = LANGUAGE.test(attribute.attrValue);
});

function rendered(tokens) {
  const fragment = DOMPurify.sanitize(marked.parser(tokens), HARMLESS);
  for (const link of fragment.querySelectorAll("a[href]")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const text of fragment.querySelectorAll("p, li, h3, h4, h5, h6, th, td, blockquote")) text.dir = "auto";
  for (const code of fragment.querySelectorAll("pre > code")) {
    code.parentElement.replaceWith(codeBlock(code.textContent.replace(/\n$/, ""), LANGUAGE.exec(code.className)?.[1]));
  }
  for (const table of fragment.querySelectorAll("table")) table.replaceWith(scrolling(table.cloneNode(true)));
  return fragment;
}

function scrolling(table) {
  const box = document.createElement("div");
  box.className = "scroll";
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Table");
  box.append(table);
  return box;
}

// Return code as a figure with its language and a button that copies it.
export function codeBlock(text, language) {
  const figure = copyOf("code");
  const code = figure.querySelector("code");
  figure.querySelector(".language").textContent = language ?? "";
  figure.querySelector(".copy").addEventListener("click", ({ target }) => copy(code.textContent, target));
  code.textContent = text;
  if (hljs.getLanguage(language ?? "") && text.length < LONGEST_COLOURED) {
    code.innerHTML = hljs.highlight(text, { language }).value;
  }
  return figure;
}

// A growing text in an element: only changed blocks are rendered again, so that a selection survives.
export class Growing {
  constructor(element) {
    this.element = element;
    this.blocks = [];
  }

  render(text, isWhole = false) {
    const tokens = marked.lexer(text);
    const blocks = tokens.filter((token) => token.type !== "space");
    // A link definition at the end affects words before it.
    const anew = isWhole && Object.keys(tokens.links).length > 0;
    blocks.forEach((token, index) => {
      if (anew || this.blocks[index] !== token.raw) this.put(index, rendered([token]));
    });
    while (this.element.children.length > blocks.length) this.element.lastElementChild.remove();
    this.blocks = blocks.map((token) => token.raw);
  }

  put(index, fragment) {
    const block = this.element.children[index] ?? this.element.appendChild(document.createElement("div"));
    block.replaceChildren(fragment);
  }
}
