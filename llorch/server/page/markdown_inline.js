// Markdown inside a block as plain objects: text, code, strong, emphasis, deletion, links, line breaks.
//
// With `isOpen` more text will follow: what has begun is shown as if it ended here, and a marker whose meaning is not
// known yet is left out.

const MAX_DEPTH = 40; // of open markers; more are letters
const MAX_HELD = 120; // characters that a link may be held back for
const ESCAPE = /\\([!-/:-@[-`{-~])/y;
const ENTITY = /&(amp|lt|gt|quot|apos|nbsp|#39);/y;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", "#39": "'" };
const BREAK = /[ \t]*\\?\n[ \t]*|<br ?\/?>/y;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]+)>/y;
const ADDRESS = /https?:\/\/[^\s<>"'`*|]+/y;
const ADDRESS_IN_TARGET = /<([^<>\n]*)>|([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)/.source;
const TARGET = new RegExp(`\\]\\([ \\t]*(?:${ADDRESS_IN_TARGET})(?:[ \\t]+(?:"[^"\\n]*"|'[^'\\n]*'))?[ \\t]*\\)`, "y");
const HALF_TARGET = /\](?:\([^)\n]*)?$/y;
const MARKERS = /\*+|_+|~~/y;
const PLAIN = /[^\\&<\n`*_~[\]!h]+|[\s\S]/y;
const SAFE = new Set(["http:", "https:", "mailto:"]);

/** The address if a link may lead there, else null. */
export function safeAddress(address) {
  try {
    return SAFE.has(new URL(address).protocol) ? address : null;
  } catch {
    return null; // also relative ones: they would lead into this server
  }
}

export function parseInline(text, isOpen = false) {
  return new InlineParser(text, isOpen).parse();
}

class InlineParser {
  #text;
  #isOpen;
  #at = 0;
  /** Open markers, the block itself first: {kind, mark, count, isWordInside, children}. */
  #frames = [{ kind: "root", children: [] }];
  #unclosedRuns = new Set();

  constructor(text, isOpen) {
    this.#text = text;
    this.#isOpen = isOpen;
  }

  parse() {
    while (this.#at < this.#text.length) this.#step();
    while (this.#frames.length > 1) this.#dissolve(this.#isOpen);
    return this.#frames[0].children;
  }

  #match(pattern) {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found) this.#at += found[0].length;
    return found;
  }

  #add(node) {
    const { children } = this.#frames.at(-1);
    const last = children.at(-1);
    if (node.type === "text" && last?.type === "text") last.text += node.text;
    else children.push(node);
  }

  #addText(text) {
    if (text) this.#add({ type: "text", text });
  }

  #step() {
    let found;
    const c = this.#text[this.#at];
    if ((found = this.#match(BREAK))) this.#add({ type: "break" });
    else if ((found = this.#match(ESCAPE))) this.#addText(found[1]);
    else if ((found = this.#match(ENTITY))) this.#addText(ENTITIES[found[1]]);
    else if ((found = this.#match(AUTOLINK))) this.#addLink(found[1], [{ type: "text", text: found[1] }]);
    else if (c === "h" && this.#isWordStart() && (found = this.#match(ADDRESS))) this.#address(found[0]);
    else if (c === "`") this.#code();
    else if (c === "*" || c === "_" || this.#text.startsWith("~~", this.#at)) this.#markers();
    else if (c === "[" || this.#text.startsWith("![", this.#at)) this.#openBracket();
    else if (c === "]") this.#closeBracket();
    else this.#addText(this.#match(PLAIN)[0]);
  }

  #isWordStart() {
    return !/\w/.test(this.#text[this.#at - 1] ?? "");
  }

  /** An address in the text; what ends the sentence does not belong to it, but a bracket that it has opened does. */
  #address(found) {
    let end = found.length;
    while (".,:;!?])}".includes(found[end - 1])) end -= 1;
    let address = found.slice(0, end);
    const open = address.split("(").length - address.split(")").length;
    address += /^\)*/.exec(found.slice(end))[0].slice(0, Math.max(0, open));
    this.#at -= found.length - address.length;
    this.#addLink(address, [{ type: "text", text: address }]);
  }

  #addLink(address, children) {
    const safe = safeAddress(address);
    if (safe) this.#add({ type: "link", address: safe, children });
    else for (const child of children) this.#add(child);
  }

  #code() {
    const [run] = this.#match(/`+/y);
    const end = this.#unclosedRuns.has(run.length) ? -1 : this.#endOfCode(run.length);
    if (end < 0) {
      this.#unclosedRuns.add(run.length);
      if (!this.#isOpen) return this.#addText(run);
    }
    let code = this.#text.slice(this.#at, end < 0 ? undefined : end).replaceAll("\n", " ");
    if (code.startsWith(" ") && code.endsWith(" ") && code.trim()) code = code.slice(1, -1);
    if (end < 0) code = withoutTicks(code);
    if (code) this.#add({ type: "code", text: code });
    this.#at = end < 0 ? this.#text.length : end + run.length;
  }

  #endOfCode(length) {
    const runs = /`+/g;
    runs.lastIndex = this.#at;
    for (let found; (found = runs.exec(this.#text)); ) if (found[0].length === length) return found.index;
    return -1;
  }

  #markers() {
    const before = this.#text[this.#at - 1] ?? " ";
    const [run] = this.#match(MARKERS);
    const mark = run[0];
    if (this.#isOpen && this.#at === this.#text.length) return; // what follows says what it is
    const after = this.#text[this.#at] ?? " ";
    const [opens, closes] = flanking(before, after, mark);
    let count = run.length;
    while (closes && count) {
      const opener = this.#opener(mark);
      if (opener < 0) break;
      while (this.#frames.length - 1 > opener) this.#dissolve(false);
      count -= this.#close(count);
    }
    if (count && opens && this.#frames.length < MAX_DEPTH) {
      this.#frames.push({ kind: "marks", mark, count, isWordInside: /[\p{L}\p{N}]/u.test(before), children: [] });
    } else this.#addText(mark.repeat(count));
  }

  /** The place of the last open marker of this kind; links are walls. */
  #opener(mark) {
    for (let i = this.#frames.length - 1; this.#frames[i].kind === "marks"; i -= 1) {
      if (this.#frames[i].mark === mark) return i;
    }
    return -1;
  }

  #close(count) {
    const frame = this.#frames.pop();
    const used = Math.min(frame.count, count, 2);
    const node = { type: typeOf(frame.mark, used), children: frame.children };
    if (frame.count > used) this.#frames.push({ ...frame, count: frame.count - used, children: [node] });
    else this.#add(node);
    return used;
  }

  #openBracket() {
    const isImage = this.#match(/!?\[/y)[0].length === 2;
    const isDeep = this.#frames.length >= MAX_DEPTH;
    if (isDeep) this.#addText("[");
    else this.#frames.push({ kind: "bracket", mark: isImage ? "![" : "[", count: 1, start: this.#at, children: [] });
  }

  #closeBracket() {
    const opener = this.#frames.findLastIndex(frame => frame.kind === "bracket");
    if (opener < 0) return this.#addText(this.#match(/\]/y)[0]);
    const found = this.#match(TARGET);
    const isHeld = !found && this.#isOpen && this.#text.length - this.#at < MAX_HELD && this.#match(HALF_TARGET);
    if (!found && !isHeld) {
      while (this.#frames.length - 1 > opener) this.#dissolve(false);
      this.#dissolve(false);
      return this.#addText(this.#match(/\]/y)[0]);
    }
    while (this.#frames.length - 1 > opener) this.#dissolve(false);
    const { children } = this.#frames.pop();
    if (isHeld && isHeld[0] === "]") return undefined;
    const address = found ? (found[1] ?? found[2]) : "";
    const label = children.length ? children.map(withoutLinks) : [{ type: "text", text: address }];
    return this.#addLink(address, label);
  }

  /** End the last open marker without its counterpart: as letters, or as if it were closed if more text will come. */
  #dissolve(isPending) {
    const frame = this.#frames.pop();
    if (isPending && frame.kind === "marks" && !frame.isWordInside) {
      const used = Math.min(frame.count, 2);
      if (frame.children.length) this.#add({ type: typeOf(frame.mark, used), children: frame.children });
      return;
    }
    const isHeld = isPending && frame.kind === "bracket" && this.#text.length - frame.start < MAX_HELD;
    if (isHeld) return;
    this.#addText(frame.mark.repeat(frame.count));
    for (const child of frame.children) this.#add(child);
  }
}

/** Backticks at the end of code that is not closed yet are the beginning of its end. */
function withoutTicks(code) {
  let end = code.length;
  while (code[end - 1] === "`") end -= 1;
  return code.slice(0, end);
}

const typeOf = (mark, count) => (mark === "~" ? "deleted" : count === 2 ? "strong" : "emphasis");

function withoutLinks(node) {
  if (!node.children) return node;
  return { ...node, type: node.type === "link" ? "span" : node.type, children: node.children.map(withoutLinks) };
}

/** Whether a run of markers between two characters may open, and may close. Source: CommonMark 0.31, 6.2. */
function flanking(before, after, mark) {
  const isBlank = c => /\s/.test(c);
  const isPunctuation = c => /[\p{P}\p{S}]/u.test(c);
  const left = !isBlank(after) && (!isPunctuation(after) || isBlank(before) || isPunctuation(before));
  const right = !isBlank(before) && (!isPunctuation(before) || isBlank(after) || isPunctuation(after));
  if (mark !== "_") return [left, right];
  return [left && (!right || isPunctuation(before)), right && (!left || isPunctuation(after))];
}
