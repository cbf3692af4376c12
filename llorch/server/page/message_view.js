// One message on the page: its text, what is said about it, and what can be done with it.
import { progressWords, statsWords } from "./answer_words.js";
import { copyButton, element, icon, iconButton } from "./dom.js";
import { MarkdownView } from "./markdown_view.js";
import { editor } from "./message_editor.js";

const GROWING = "streaming";

export class MessageView {
  #actions;
  #announce;
  #markdown = null;
  #message = null;
  #versions = [];
  #isEdited = false;

  /** `actions`: {edit(message, text), again(message), show(message)}; `announce` gets sentences for screen readers. */
  constructor(message, actions, announce) {
    this.#actions = actions;
    this.#announce = announce;
    this.#message = message;
    const isAnswer = message.role === "assistant";
    this.#markdown = isAnswer ? new MarkdownView(announce) : null;
    const title = element("h2", { class: "hidden", id: `m-${message.id}` }, isAnswer ? "Answer" : "You");
    this.body = isAnswer ? this.#markdown.node : element("div", { class: "said", dir: "auto" });
    this.progress = element("p", { class: "progress" });
    this.note = element("p", { class: "note", dir: "auto" });
    const again = { type: "button", class: "button", onclick: () => actions.again(this.#message) };
    this.again = isAnswer ? element("button", again, icon("i-again"), "Try again") : null;
    this.versions = element("span", { class: "versions" });
    this.stats = element("span", { class: "stats" });
    this.tools = element("div", { class: "tools", role: "group", "aria-label": isAnswer ? "Answer" : "Message" });
    this.tools.append(this.versions, ...this.#buttons(isAnswer), this.stats);
    this.node = element(
      "article",
      { class: isAnswer ? "message answer" : "message question", "aria-labelledby": `m-${message.id}` },
      title,
      this.body,
      this.progress,
      this.note,
      ...(isAnswer ? [this.again] : []),
      this.tools,
    );
  }

  #buttons(isAnswer) {
    const copy = copyButton("Copy", () => this.#message.content, this.#announce);
    const own = isAnswer
      ? iconButton("i-again", "Answer again", () => this.#actions.again(this.#message))
      : iconButton("i-edit", "Edit", () => this.#edit());
    return [copy, own];
  }

  /** Show the message as it is now; `run` is its progress while it grows, `canChange` whether it may be replaced. */
  update(message, versions, run, canChange) {
    this.#message = message;
    const isGrowing = message.status === GROWING;
    const isFailed = message.status === "failed";
    if (this.#markdown) this.#markdown.update(message.content, isGrowing);
    else if (this.body.textContent !== message.content) this.body.textContent = message.content;
    this.node.classList.toggle("growing", isGrowing);
    this.node.classList.toggle("failed", isFailed);
    setText(this.progress, isGrowing && run ? progressWords(run) : "");
    setText(this.note, isGrowing ? "" : (message.note ?? ""));
    if (this.again) this.again.hidden = !isFailed || !canChange;
    this.tools.hidden = isGrowing || this.#isEdited;
    for (const button of this.tools.querySelectorAll(":scope > button:not(:first-of-type)")) button.hidden = !canChange;
    this.#showStats(message);
    this.#showVersions(versions, canChange);
  }

  #showStats({ stats, model }) {
    const words = stats ? statsWords(stats) : [];
    const text = words.join(" · ");
    if (this.stats.textContent === text) return;
    const dot = () => element("span", { class: "separator" }, " · ");
    this.stats.replaceChildren(...words.flatMap((word, i) => [...(i ? [dot()] : []), element("span", {}, word)]));
    this.stats.title = model ? `Answered by ${model}` : "";
  }

  /** `‹ 2 / 3 ›` where there are several. */
  #showVersions(versions, canChange) {
    const place = versions.indexOf(this.#message);
    const now = [place, versions.length, canChange].join();
    if (now === this.#versions.join()) return;
    const hadFocus = this.versions.contains(document.activeElement) ? document.activeElement.dataset.step : null;
    this.#versions = [place, versions.length, canChange];
    if (versions.length < 2) return this.versions.replaceChildren();
    const step = (by, symbol, label) =>
      iconButton(symbol, label, () => this.#actions.show(versions[place + by]), {
        disabled: !canChange || !versions[place + by],
        "data-step": by,
      });
    const count = element("span", { class: "count" }, `${place + 1} / ${versions.length}`);
    this.versions.replaceChildren(step(-1, "i-left", "Earlier version"), count, step(1, "i-right", "Later version"));
    if (hadFocus) this.versions.querySelector(`[data-step="${hadFocus}"]`)?.focus();
  }

  #edit() {
    this.#isEdited = true;
    this.tools.hidden = true;
    const form = editor(this.#message.content, text => {
      const isChanged = text !== null && text !== this.#message.content;
      if (isChanged && !this.#actions.edit(this.#message, text)) return; // it stays open
      this.#isEdited = false;
      form.replaceWith(this.body);
      this.tools.hidden = false;
      if (!isChanged) this.tools.querySelector("[aria-label=Edit]").focus();
    });
    this.body.replaceWith(form);
    form.querySelector("textarea").focus();
  }
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
  node.hidden = !text;
}
