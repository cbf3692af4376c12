// The messages of the chat that is shown, and where the reader is in them.
import { pathOf, versionsOf } from "./conversation.js";
import { byId } from "./dom.js";
import { MessageView } from "./message_view.js";

const NEAR_END = 80; // pixels: who is so near wants to see what comes

export class Thread {
  #answering;
  #views = new Map();
  #conversation = null;
  #actions;
  #announce;
  #frame = 0;
  #follows = true;

  constructor(answering, actions, announce) {
    this.#answering = answering;
    this.#actions = actions;
    this.#announce = announce;
    this.scroller = byId("thread");
    this.list = byId("messages");
    this.toEnd = byId("to-end");
    this.scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    this.toEnd.addEventListener("click", () => this.scrollToEnd());
    new ResizeObserver(() => this.#follows && this.scrollToEnd()).observe(this.list);
    new ResizeObserver(() => this.#follows && this.scrollToEnd()).observe(this.scroller);
  }

  /** Show a chat from its end. */
  show(conversation) {
    this.#conversation = conversation;
    this.#views.clear();
    this.list.replaceChildren();
    this.#follows = true;
    this.update();
    this.scrollToEnd();
  }

  /** Show what has changed, with the next picture. */
  schedule(conversation) {
    if (conversation !== this.#conversation || this.#frame) return;
    // A hidden tab draws no pictures, and its text shall be whole all the same.
    const later = document.hidden ? callback => setTimeout(callback, 250) : requestAnimationFrame;
    this.#frame = later(() => this.update());
  }

  update() {
    this.#frame = 0;
    const conversation = this.#conversation;
    const path = pathOf(conversation);
    const canChange = !this.#answering.isRunning(conversation);
    byId("welcome").hidden = path.length > 0;
    this.list.setAttribute("aria-busy", String(!canChange));
    const wanted = path.map(message => {
      const view = this.#views.get(message.id) ?? new MessageView(message, this.#actions, this.#announce);
      this.#views.set(message.id, view);
      const run = this.#answering.progressOf(conversation, message);
      view.update(message, versionsOf(conversation, message), run, canChange);
      return view.node;
    });
    wanted.forEach((node, i) => {
      if (this.list.children[i] !== node) this.list.insertBefore(node, this.list.children[i] ?? null);
    });
    while (this.list.children.length > wanted.length) this.list.lastElementChild.remove();
    if (this.#follows) this.scrollToEnd(); // a table that comes at once is no reason to stop following
    else this.#look();
  }

  scrollToEnd() {
    this.#follows = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.toEnd.hidden = true;
  }

  #look() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.#follows = scrollHeight - scrollTop - clientHeight < NEAR_END;
    this.toEnd.hidden = this.#follows;
  }
}
