// The field in which messages are written, and its button: it sends, or stops.
import { byId } from "./dom.js";
import { fitHeight, sendsOnEnter } from "./text_field.js";

export class Composer {
  #onSend;

  /** `onSend(text)` says whether the text was taken; `onStop()` ends the running answer. */
  constructor(onSend, onStop) {
    this.#onSend = onSend;
    this.field = byId("prompt");
    this.sendButton = byId("send");
    this.stopButton = byId("stop");
    byId("composer").addEventListener("submit", event => {
      event.preventDefault();
      this.#send();
    });
    sendsOnEnter(this.field, () => this.#send());
    this.field.addEventListener("input", () => this.#changed());
    this.stopButton.addEventListener("click", () => {
      onStop();
      this.field.focus();
    });
    document.addEventListener("keydown", event => {
      if (event.key === "Escape" && !event.isComposing && !document.querySelector("dialog[open]")) onStop();
    });
    this.#changed();
  }

  setRunning(isRunning) {
    this.sendButton.hidden = isRunning;
    this.stopButton.hidden = !isRunning;
  }

  focus() {
    if (matchMedia("(pointer: fine)").matches) this.field.focus(); // on a phone the keyboard would cover the chat
  }

  #send() {
    const text = this.field.value.trim();
    if (!text || !this.#onSend(text)) return;
    this.field.value = "";
    this.#changed();
  }

  #changed() {
    fitHeight(this.field);
    // Not `disabled`: it would drop the focus of who has just sent by the button.
    this.sendButton.setAttribute("aria-disabled", String(!this.field.value.trim()));
  }
}
