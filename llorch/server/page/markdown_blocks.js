// Markdown's blocks as plain objects: paragraphs, headings, fences, quotes, lists, tables, rules.
//
// With `isOpen` more text will follow: a last line that may become a marker is left out, so that nothing is shown
// as one thing and then as another.

const MAX_DEPTH = 12; // of quotes and lists; deeper ones are paragraphs
const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-+*]|\d{1,9}[.)])(?:( +)(.*)|)$/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const HALF_MARKER = /^[ \t]*(?:[-+*_]{1,2}|\d{1,9}[.)]?|#{1,6}|`{1,2}|~{1,2}|>)[ \t]*$/;
const HALF_FENCE = /^ {0,3}(?:`{1,2}|~{1,2})$/;

export function linesOf(text) {
  return text.split(/\r\n|\r|\n/).map(line => line.replace(/^[ \t]+/, start => start.replaceAll("\t", "    ")));
}

/** The blocks of lines; each says at which line it begins. */
export function parseBlocks(allLines, isOpen = false, depth = 0) {
  const lines = isOpen && allLines.at(-1) === "" ? allLines.slice(0, -1) : allLines; // its next line is not there yet
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      at += 1;
      continue;
    }
    const parse = [fence, heading, rule, quote, list, table, paragraph].find(kind => kind.begins(lines, at, depth));
    const [block, next] = parse(lines, at, isOpen, depth);
    if (block) blocks.push({ ...block, line: at });
    at = next;
  }
  return blocks;
}

const isBlank = line => /^[ \t]*$/.test(line);
const indentOf = line => line.length - line.trimStart().length;
const isLast = (lines, at, isOpen) => isOpen && at === lines.length - 1;

function fence(lines, at, isOpen) {
  const [, indent, marker, info] = FENCE.exec(lines[at]);
  const end = new RegExp(`^ {0,3}${marker[0]}{${marker.length},}[ \\t]*$`);
  const strip = new RegExp(`^ {0,${indent.length}}`);
  const code = [];
  let next = at + 1;
  while (next < lines.length && !end.test(lines[next])) {
    if (!(isLast(lines, next, isOpen) && HALF_FENCE.test(lines[next]))) code.push(lines[next].replace(strip, ""));
    next += 1;
  }
  const language = isLast(lines, at, isOpen) ? "" : info.trim().split(/\s+/)[0];
  return [{ type: "code", language, text: code.join("\n") }, next + 1];
}
fence.begins = (lines, at) => FENCE.test(lines[at]);

function heading(lines, at, isOpen) {
  const [, marks, rest = ""] = HEADING.exec(lines[at]);
  const text = rest.trimEnd().replace(/(?:^|[ \t])#+$/, "").trim();
  if (!text && isLast(lines, at, isOpen)) return [null, at + 1];
  return [{ type: "heading", level: marks.length, text }, at + 1];
}
heading.begins = (lines, at) => HEADING.test(lines[at]);

const rule = (lines, at) => [{ type: "rule" }, at + 1];
rule.begins = (lines, at) => RULE.test(lines[at]);

function quote(lines, at, isOpen, depth) {
  const inner = [];
  let next = at;
  while (next < lines.length && !isBlank(lines[next])) {
    if (QUOTE.test(lines[next])) inner.push(lines[next].replace(QUOTE, ""));
    else if (next > at && !interrupts(lines, next, depth)) inner.push(lines[next].trimStart());
    else break;
    next += 1;
  }
  const blocks = parseBlocks(inner, isOpen && next === lines.length, depth + 1);
  return [blocks.length || !isOpen ? { type: "quote", blocks } : null, next];
}
quote.begins = (lines, at, depth) => depth < MAX_DEPTH && QUOTE.test(lines[at]);

function list(lines, at, isOpen, depth) {
  const isOrdered = marker => /\d/.test(marker);
  const kind = marker => (isOrdered(marker) ? marker.at(-1) : marker);
  const [, , first] = ITEM.exec(lines[at]);
  const items = [];
  let isLoose = false;
  let next = at;
  while (next < lines.length) {
    const found = RULE.test(lines[next]) ? null : ITEM.exec(lines[next]);
    if (!found || kind(found[2]) !== kind(first)) break;
    const item = itemLines(lines, next, found, depth);
    const blocks = parseBlocks(item.lines, isOpen && item.next === lines.length, depth + 1);
    if (blocks.length || !isLast(lines, next, isOpen)) items.push(checkable(blocks));
    isLoose ||= item.isLoose || (item.isFollowedByBlank && item.next < lines.length && sameList(lines, item.next));
    next = item.next;
  }
  function sameList(all, line) {
    const found = ITEM.exec(all[line]);
    return found !== null && kind(found[2]) === kind(first) && !RULE.test(all[line]);
  }
  const block = { type: "list", isOrdered: isOrdered(first), start: parseInt(first, 10) || 0, isLoose, items };
  return [items.length ? block : null, next];
}
list.begins = (lines, at, depth) => depth < MAX_DEPTH && ITEM.test(lines[at]) && indentOf(lines[at]) < 4;

/** The lines of one item without marker and indentation. Two columns make a line belong to it: models indent so. */
function itemLines(lines, at, [, indent, marker, blanks = " ", text = ""], depth) {
  const offset = indent.length + marker.length + (blanks.length > 4 ? 1 : blanks.length);
  const own = [blanks.length > 4 ? blanks.slice(1) + text : text];
  let next = at + 1;
  let isLoose = false;
  let isFollowedByBlank = false;
  for (; next < lines.length; next += 1) {
    const line = lines[next];
    if (isBlank(line)) {
      isFollowedByBlank = true;
      continue;
    }
    const isInside = indentOf(line) >= Math.min(offset, indent.length + 2);
    if (!isInside && (isFollowedByBlank || ITEM.test(line) || interrupts(lines, next, depth))) break;
    if (isFollowedByBlank) {
      own.push("");
      isLoose ||= !ITEM.test(line);
    }
    isFollowedByBlank = false;
    own.push(line.slice(Math.min(indentOf(line), offset)));
  }
  return { lines: own, next, isLoose, isFollowedByBlank };
}

/** `[ ]` and `[x]` at an item's beginning are boxes. */
function checkable(blocks) {
  const [first] = blocks;
  const box = first?.type === "paragraph" && /^\[([ xX])\][ \t]+/.exec(first.text);
  if (!box) return { blocks };
  const rest = { ...first, text: first.text.slice(box[0].length) };
  return { isChecked: box[1] !== " ", blocks: [rest, ...blocks.slice(1)] };
}

function table(lines, at) {
  const alignments = cellsOf(lines[at + 1]).map(cell => {
    if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "end";
    return cell.startsWith(":") ? "start" : "";
  });
  const header = cellsOf(lines[at]);
  const rows = [];
  let next = at + 2;
  while (next < lines.length && !isBlank(lines[next]) && !interrupts(lines, next, MAX_DEPTH)) {
    const cells = cellsOf(lines[next]).slice(0, header.length);
    rows.push([...cells, ...Array(header.length - cells.length).fill("")]);
    next += 1;
  }
  return [{ type: "table", alignments, header, rows }, next];
}
table.begins = (lines, at) =>
  lines[at].includes("|") &&
  at + 1 < lines.length &&
  DELIMITERS.test(lines[at + 1]) &&
  cellsOf(lines[at]).length === cellsOf(lines[at + 1]).length;

function cellsOf(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map(cell => cell.trim().replaceAll("\\|", "|"));
}

function paragraph(lines, at, isOpen, depth) {
  let next = at + 1;
  while (next < lines.length && !isBlank(lines[next]) && !interrupts(lines, next, depth)) next += 1;
  const own = lines.slice(at, next);
  if (isOpen && next === lines.length) {
    if (/^ {0,3}\|/.test(own[0]) && own.slice(1).every(line => /^[ \t|:-]*$/.test(line)) && own.length < 3) {
      return [{ type: "table", alignments: [], header: cellsOf(own[0]), rows: [] }, next]; // its second line is due
    }
    if (HALF_MARKER.test(own.at(-1))) own.pop();
  }
  const text = own.map(line => line.trimStart()).join("\n").trimEnd();
  return [text ? { type: "paragraph", text } : null, next];
}
paragraph.begins = () => true;

/** Whether a line ends the paragraph before it. */
function interrupts(lines, at, depth) {
  const line = lines[at];
  if ([fence, heading, rule, quote].some(kind => kind.begins(lines, at, depth))) return true;
  const item = list.begins(lines, at, depth) && ITEM.exec(line);
  if (item && item[4] && (!/\d/.test(item[2]) || parseInt(item[2], 10) === 1)) return true;
  return table.begins(lines, at);
}
