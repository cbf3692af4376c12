// A chat as plain data: a tree of messages, because an edit or another try begins a new branch, and the leaf shown.
//
// {id, title, isNamed, created, updated, system, leaf, messages: [{id, parent, role, content, created, ...}]}
// An answer also has `status` ("streaming", "done", "stopped", "failed"), `note` (words about its end) and `stats`.

const MAX_TITLE = 60;

/** Random, also where the page was not loaded by HTTPS and crypto.randomUUID is absent. */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation(system = "") {
  const now = Date.now();
  return { id: newId(), title: "", isNamed: false, created: now, updated: now, system, leaf: null, messages: [] };
}

/** Add a message below `parent` (an id, or null for a first one) and show it. */
export function addMessage(conversation, parent, role, content) {
  const message = { id: newId(), parent, role, content, created: Date.now() };
  conversation.messages.push(message);
  conversation.leaf = message.id;
  conversation.updated = message.created;
  if (!conversation.isNamed && role === "user" && !conversation.title) conversation.title = titleOf(content);
  return message;
}

export function messageOf(conversation, id) {
  return conversation.messages.find(message => message.id === id) ?? null;
}

/** The messages from the first to the one shown last, or to `id`. */
export function pathOf(conversation, id = conversation.leaf) {
  const byId = new Map(conversation.messages.map(message => [message.id, message]));
  const path = [];
  for (let message = byId.get(id); message && path.length < byId.size; message = byId.get(message.parent)) {
    path.push(message);
  }
  return path.reverse();
}

/** The message and its other versions, oldest first. */
export function versionsOf(conversation, message) {
  return conversation.messages.filter(({ parent, role }) => parent === message.parent && role === message.role);
}

/** Show `message`, and below it what was written last. */
export function showVersion(conversation, message) {
  let leaf = message;
  for (;;) {
    const below = conversation.messages.filter(({ parent }) => parent === leaf.id);
    if (!below.length) break;
    leaf = below.at(-1);
  }
  conversation.leaf = leaf.id;
}

/**
 * What the model gets: the system prompt and the messages up to `id`. Answers that failed at once are left out, and
 * the turns around them become one: templates want turns to alternate.
 */
export function requestMessages(conversation, id) {
  const turns = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  for (const { role, content } of pathOf(conversation, id)) {
    if (role === "assistant" && !content) continue;
    if (turns.at(-1)?.role === role) turns.at(-1).content += `\n\n${content}`;
    else turns.push({ role, content });
  }
  return turns;
}

export function titleOf(text) {
  const line = text.trim().split("\n")[0].replace(/\s+/g, " ");
  const letters = [...line];
  return letters.length <= MAX_TITLE ? line : `${letters.slice(0, MAX_TITLE - 1).join("").trimEnd()}…`;
}

/** A conversation of an imported file, made of what is right in it; null if nothing is. */
export function checkedConversation(value) {
  if (typeof value !== "object" || value === null || !Array.isArray(value.messages)) return null;
  const isText = text => typeof text === "string";
  const known = new Set();
  const messages = [];
  for (const message of value.messages) {
    if (typeof message !== "object" || message === null || !isText(message.id) || known.has(message.id)) continue;
    if (!isText(message.content) || !["user", "assistant"].includes(message.role)) continue;
    if (message.parent !== null && !known.has(message.parent)) continue;
    known.add(message.id);
    const { id, parent, role, content } = message;
    const more = role === "assistant" ? { status: "done", note: isText(message.note) ? message.note : "" } : {};
    const created = numberOr(message.created, Date.now());
    messages.push({ id, parent, role, content, created, ...more, ...checkedStats(message) });
  }
  if (!messages.length) return null;
  const now = Date.now();
  return {
    id: newId(), // beside a chat of this name that is there already
    title: isText(value.title) && value.title ? titleOf(value.title) : titleOf(messages[0].content),
    isNamed: value.isNamed === true,
    created: numberOr(value.created, now),
    updated: numberOr(value.updated, now),
    system: isText(value.system) ? value.system : "",
    leaf: known.has(value.leaf) ? value.leaf : messages.at(-1).id,
    messages,
  };
}

function checkedStats({ stats }) {
  if (typeof stats !== "object" || stats === null) return {};
  const numbers = Object.entries(stats).filter(([, value]) => Number.isFinite(value));
  return { stats: Object.fromEntries(numbers) };
}

const numberOr = (value, other) => (Number.isFinite(value) ? value : other);
