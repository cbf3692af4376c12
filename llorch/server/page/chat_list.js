// The list of chats at the side; on narrow screens it comes out over the page.
import { confirmed } from "./confirm.js";
import { byId, element, iconButton } from "./dom.js";

const NARROW = matchMedia("(max-width: 800px)");

export class ChatList {
  #chats;
  #answering;
  #renamed = null;

  constructor(chats, answering, { onNew, onDelete }) {
    this.#chats = chats;
    this.#answering = answering;
    this.onDelete = onDelete;
    this.list = byId("chat-list");
    this.opener = byId("open-sidebar");
    this.sidebar = byId("sidebar");
    byId("new-chat").addEventListener("click", () => {
      onNew();
      this.#closeOver();
    });
    this.opener.addEventListener("click", () => this.#toggle(document.body.dataset.sidebar !== "open"));
    byId("close-sidebar").addEventListener("click", () => this.#closeOver());
    byId("scrim").addEventListener("click", () => this.#closeOver());
    this.sidebar.addEventListener("keydown", event => event.key === "Escape" && this.#closeOver(event));
    NARROW.addEventListener("change", () => this.#toggle(!NARROW.matches, false));
    this.#toggle(!NARROW.matches, false);
  }

  update() {
    if (this.#renamed) return; // the field would go away under the reader's hands
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.list.replaceChildren(...this.#chats.list.map(conversation => this.#row(conversation)));
    if (focused) this.list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #row(conversation) {
    const isCurrent = conversation === this.#chats.current;
    const title = conversation.title || "Untitled";
    const isRunning = this.#answering.isRunning(conversation);
    const open = element(
      "button",
      {
        type: "button",
        class: "chat-title",
        title,
        "aria-current": isCurrent ? "page" : null,
        "data-key": `open ${conversation.id}`,
        onclick: () => {
          this.#chats.show(conversation);
          this.#closeOver();
        },
      },
      element("span", { dir: "auto" }, title),
      isRunning ? element("span", { class: "running", title: "The model answers" }) : null,
    );
    const key = name => ({ "data-key": `${name} ${conversation.id}` });
    const rename = iconButton("i-edit", `Rename ${title}`, () => this.#rename(row, conversation), key("rename"));
    const remove = iconButton("i-trash", `Delete ${title}`, () => this.#remove(conversation), key("delete"));
    const row = element("li", { class: isCurrent ? "current" : "" }, open, rename, remove);
    return row;
  }

  #rename(row, conversation) {
    this.#renamed = conversation;
    const { title: value } = conversation;
    const field = element("input", { value, dir: "auto", "aria-label": "Name of the chat", maxLength: 120 });
    const finish = isKept => {
      if (this.#renamed !== conversation) return;
      this.#renamed = null;
      const title = field.value.trim();
      if (isKept && title && title !== conversation.title) this.#chats.rename(conversation, title);
      this.update();
      this.list.querySelector(`[data-key="rename ${conversation.id}"]`)?.focus();
    };
    field.addEventListener("keydown", event => {
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      finish(event.key === "Enter");
    });
    field.addEventListener("blur", () => finish(true));
    row.replaceChildren(field);
    field.select();
  }

  async #remove(conversation) {
    const title = conversation.title || "Untitled";
    if (!(await confirmed("Delete this chat?", title, "Delete"))) return;
    await this.onDelete(conversation);
    byId("new-chat").focus();
  }

  /** On wide screens the list stays open when something in it is chosen. */
  #closeOver(event) {
    if (!NARROW.matches || document.body.dataset.sidebar !== "open") return;
    event?.stopPropagation();
    this.#toggle(false);
  }

  #toggle(isOpen, movesFocus = true) {
    document.body.dataset.sidebar = isOpen ? "open" : "closed";
    this.opener.setAttribute("aria-expanded", String(isOpen));
    this.sidebar.inert = !isOpen;
    const covers = isOpen && NARROW.matches;
    byId("app").inert = covers;
    if (!movesFocus) return;
    if (covers) byId("close-sidebar").focus();
    else this.opener.focus();
  }
}
