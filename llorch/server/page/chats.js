// The chats that there are, the one shown, and their way into the store.
//
// Events: "list" (a chat came, went, or has another name), "current" (another one is shown), "message" (detail:
// {conversation, message}, a message has changed), "storage" (detail: {message}, something could not be kept).
import { checkedConversation, newConversation } from "./conversation.js";

const SAVE_EVERY_MS = 1500; // while an answer grows

export class Chats extends EventTarget {
  #store;
  #byId = new Map();
  #removed = new Set();
  #timers = new Map();
  #others = typeof BroadcastChannel === "function" ? new BroadcastChannel("llorch.chats") : null;
  current = newConversation();
  /** Whether an answer to a chat comes into this tab. */
  isGrowingHere = () => false;

  constructor(store) {
    super();
    this.#store = store;
    this.#others?.addEventListener("message", ({ data }) => this.#hear(data));
  }

  async load() {
    for (const conversation of await this.#store.all()) this.#byId.set(conversation.id, conversation);
    // An answer that was growing when the page was closed does so no more.
    for (const { messages } of this.#byId.values()) {
      for (const message of messages) {
        if (message.status === "streaming") Object.assign(message, { status: "stopped", note: "Interrupted." });
      }
    }
  }

  /** Newest first. */
  get list() {
    return [...this.#byId.values()].sort((a, b) => b.updated - a.updated);
  }

  get(id) {
    return this.#byId.get(id) ?? null;
  }

  show(conversation) {
    this.current = conversation;
    this.#tell("current");
  }

  /** Show an empty chat, which is kept when something is said in it. */
  begin(system) {
    this.show(newConversation(system));
  }

  rename(conversation, title) {
    Object.assign(conversation, { title, isNamed: true });
    return this.save(conversation);
  }

  async remove(conversation) {
    this.#drop(conversation);
    if (this.current === conversation) this.begin(conversation.system);
    this.#tell("list");
    await this.#try(() => this.#store.remove(conversation.id));
    this.#others?.postMessage({ removed: conversation.id });
  }

  async clear() {
    for (const conversation of this.list) this.#drop(conversation);
    this.begin(this.current.system);
    this.#tell("list");
    await this.#try(() => this.#store.clear());
    this.#others?.postMessage({ removed: "all" });
  }

  /** A message has changed: it is shown at once, and kept soon. */
  touch(conversation, message) {
    this.#tell("message", { conversation, message });
    if (this.#timers.has(conversation.id)) return;
    this.#timers.set(conversation.id, setTimeout(() => this.save(conversation), SAVE_EVERY_MS));
  }

  async save(conversation) {
    this.#forgetTimer(conversation);
    if (!conversation.messages.length || this.#removed.has(conversation.id)) return;
    this.#byId.set(conversation.id, conversation);
    this.#tell("list");
    await this.#try(() => this.#store.put(conversation));
    this.#others?.postMessage({ saved: conversation });
  }

  export() {
    return JSON.stringify({ format: "llorch-chats", version: 1, conversations: this.list }, null, 1);
  }

  /** How many chats of the file were taken. */
  async import(text) {
    let content;
    try {
      content = JSON.parse(text);
    } catch {
      return 0;
    }
    const list = Array.isArray(content?.conversations) ? content.conversations : [];
    const taken = list.map(checkedConversation).filter(Boolean);
    for (const conversation of taken) await this.save(conversation);
    return taken.length;
  }

  /** Another tab has changed something. What this tab shows in the making stays as it is. */
  #hear({ saved, removed }) {
    if (saved) {
      if (this.isGrowingHere(saved)) return;
      this.#byId.set(saved.id, saved);
      if (this.current.id === saved.id) this.show(saved);
    } else if (removed === "all") {
      this.#byId.clear();
      this.begin(this.current.system);
    } else {
      this.#byId.delete(removed);
      if (this.current.id === removed) this.begin(this.current.system);
    }
    this.#tell("list");
  }

  async #try(change) {
    try {
      await change();
    } catch (error) {
      const isFull = error?.name === "QuotaExceededError";
      const message = isFull
        ? "The browser has no room for more chats: this one is not kept. Export or delete some."
        : "The browser could not keep this chat.";
      this.#tell("storage", { message });
    }
  }

  /** An answer that still grows does not bring it back. */
  #drop(conversation) {
    this.#removed.add(conversation.id);
    this.#byId.delete(conversation.id);
    this.#forgetTimer(conversation);
  }

  #forgetTimer({ id }) {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
