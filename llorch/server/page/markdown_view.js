// A text in Markdown as elements, which grow with the text: what is unchanged stays, selection and scrolling too.
import { copyButton, element } from "./dom.js";
import { linesOf, parseBlocks } from "./markdown_blocks.js";
import { parseInline } from "./markdown_inline.js";

const HEADING_SHIFT = 2; // the page's own headings are above those of a text

export class MarkdownView {
  #announce;
  /** {source, isOpen, block, node} of each top-level block. */
  #shown = [];

  /** `announce` gets sentences for screen readers. */
  constructor(announce) {
    this.#announce = announce;
    this.node = element("div", { class: "markdown" });
  }

  /** Show `text`; with `isOpen` more will follow. */
  update(text, isOpen) {
    const lines = linesOf(text);
    const first = Math.max(0, isOpen ? this.#shown.length - 2 : 0); // text at the end may change the last two blocks
    const from = this.#keptLines(lines, first);
    const kept = from === 0 ? 0 : first;
    const blocks = parseBlocks(lines.slice(from), isOpen);
    const starts = blocks.map(block => block.line + from);
    const now = blocks.map((block, i) => ({
      block,
      line: starts[i],
      source: lines.slice(starts[i], starts[i + 1]).join("\n"),
      isOpen: isOpen && i === blocks.length - 1,
    }));
    now.forEach((entry, i) => this.#show(kept + i, entry));
    for (const { node } of this.#shown.splice(kept + now.length)) node.remove();
  }

  /** The line at which block `first` begins, if all before it are as they were; else 0. */
  #keptLines(lines, first) {
    if (!first) return 0;
    const { line } = this.#shown[first];
    const isSame = this.#shown.slice(0, first).every(({ source, line: start }, i) => {
      const end = this.#shown[i + 1].line;
      return source === lines.slice(start, end).join("\n");
    });
    return isSame ? line : 0;
  }

  #show(i, entry) {
    const old = this.#shown[i];
    if (old && old.source === entry.source && old.isOpen === entry.isOpen) {
      old.line = entry.line;
      return;
    }
    if (old?.block.type === "code" && entry.block.type === "code" && old.block.language === entry.block.language) {
      old.code.data = entry.block.text;
      this.#shown[i] = { ...entry, node: old.node, code: old.code };
      return;
    }
    const node = this.#block(entry.block, entry.isOpen, entry);
    if (old) old.node.replaceWith(node);
    else this.node.append(node);
    this.#shown[i] = { ...entry, node };
  }

  #block(block, isOpen, entry = {}) {
    const inner = (blocks, open) => blocks.map((child, i) => this.#block(child, open && i === blocks.length - 1));
    switch (block.type) {
      case "heading": {
        const level = Math.min(6, block.level + HEADING_SHIFT);
        return element(`h${level}`, { class: `level-${block.level}`, dir: "auto" }, ...inline(block.text, isOpen));
      }
      case "code":
        return this.#code(block, entry);
      case "quote":
        return element("blockquote", { dir: "auto" }, ...inner(block.blocks, isOpen));
      case "list":
        return this.#list(block, isOpen, inner);
      case "table":
        return tableNode(block, isOpen);
      case "rule":
        return element("hr");
      default:
        return element("p", { dir: "auto" }, ...inline(block.text, isOpen));
    }
  }

  #code(block, entry) {
    entry.code = document.createTextNode(block.text);
    const { code } = entry;
    const copy = copyButton("Copy the code", () => code.data, this.#announce);
    return element(
      "div",
      { class: "code", dir: "ltr" },
      element("div", { class: "code-head" }, element("span", {}, block.language), copy),
      element("pre", { tabIndex: 0 }, element("code", {}, code)),
    );
  }

  #list(block, isOpen, inner) {
    const items = block.items.map((item, i) => {
      const isLast = isOpen && i === block.items.length - 1;
      const [first] = item.blocks;
      const isTight = !block.isLoose && first?.type === "paragraph";
      const content = isTight
        ? [...inline(first.text, isLast && item.blocks.length === 1), ...inner(item.blocks.slice(1), isLast)]
        : inner(item.blocks, isLast);
      if (item.isChecked === undefined) return element("li", { dir: "auto" }, ...content);
      const label = item.isChecked ? "done" : "open";
      const box = element("input", { type: "checkbox", checked: item.isChecked, disabled: true, "aria-label": label });
      return element("li", { class: "task", dir: "auto" }, box, ...content);
    });
    const start = block.isOrdered && block.start !== 1 ? { start: block.start } : {};
    const properties = { class: block.isLoose ? "loose" : "", dir: "auto", ...start };
    return element(block.isOrdered ? "ol" : "ul", properties, ...items);
  }
}

function tableNode({ alignments, header, rows }, isOpen) {
  const cell = (name, text, i, open, more = {}) =>
    element(name, { class: alignments[i] ? `align-${alignments[i]}` : "", dir: "auto", ...more }, ...inline(text, open));
  const head = element("tr", {}, ...header.map((text, i) => cell("th", text, i, isOpen, { scope: "col" })));
  const body = rows.map(row => element("tr", {}, ...row.map((text, i) => cell("td", text, i, isOpen))));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "table", tabIndex: 0, role: "region", "aria-label": "Table" }, table);
}

const NAMES = { strong: "strong", emphasis: "em", deleted: "del", span: "span" };

function inline(text, isOpen) {
  return parseInline(text, isOpen).map(inlineNode);
}

function inlineNode(node) {
  if (node.type === "text") return document.createTextNode(node.text);
  if (node.type === "break") return element("br");
  if (node.type === "code") return element("code", { dir: "auto" }, node.text);
  const children = node.children.map(inlineNode);
  if (node.type !== "link") return element(NAMES[node.type], {}, ...children);
  const properties = { href: node.address, target: "_blank", rel: "noopener noreferrer", title: node.address };
  return element("a", properties, ...children);
}
