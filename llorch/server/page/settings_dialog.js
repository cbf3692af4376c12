// The dialog with the system prompt, the sampling settings, and what can be done with all chats.
import { confirmed } from "./confirm.js";
import { byId, element } from "./dom.js";
import { forgetKey, readKey } from "./key.js";
import { FIELDS, numberOf, readSampling, writeSampling } from "./sampling.js";

export class SettingsDialog {
  #chats;
  #model;
  #onSystem;
  #say;

  /** `onSystem(text)` gets the new system prompt, `say(text)` tells the reader something. */
  constructor(chats, model, { onSystem, onDeleteAll, say }) {
    this.#chats = chats;
    this.#model = model;
    this.#onSystem = onSystem;
    this.#say = say;
    this.dialog = byId("settings");
    byId("fields").append(...FIELDS.map(fieldRow));
    byId("open-settings").addEventListener("click", () => this.open());
    byId("settings-form").addEventListener("submit", event => this.#save(event));
    byId("reset-settings").addEventListener("click", () => this.#fill({}));
    byId("export").addEventListener("click", () => this.#export());
    byId("import").addEventListener("click", () => byId("import-file").click());
    byId("import-file").addEventListener("change", event => this.#import(event.target));
    byId("delete-all").addEventListener("click", () => this.#deleteAll(onDeleteAll));
    byId("forget-key").addEventListener("click", () => {
      forgetKey();
      byId("forget-row").hidden = true;
      byId("system").focus();
    });
  }

  open() {
    byId("system").value = this.#chats.current.system;
    byId("forget-row").hidden = readKey() === null;
    byId("system-help").textContent = this.#model.takesSystemPrompt
      ? "For this chat; new chats begin with it, too."
      : "The chat template of this model has no place of its own for it, and may leave it out.";
    this.#fill(readSampling());
    this.dialog.showModal();
    byId("system").focus();
  }

  #fill(values) {
    for (const field of FIELDS) {
      byId(`f-${field.name}`).value = values[field.name] ?? "";
      mark(field, "");
    }
  }

  #save(event) {
    const values = {};
    let firstFault = null;
    for (const field of FIELDS) {
      const input = byId(`f-${field.name}`);
      try {
        const value = numberOf(field, input.value);
        if (value !== undefined) values[field.name] = value;
        mark(field, "");
      } catch (error) {
        mark(field, `Expected ${error.message}.`);
        firstFault ??= input;
      }
    }
    if (firstFault) {
      event.preventDefault();
      firstFault.focus();
      return;
    }
    if (!writeSampling(values)) this.#say("The browser could not keep the settings.");
    this.#onSystem(byId("system").value.trim());
  }

  async #deleteAll(onDeleteAll) {
    const n = this.#chats.list.length;
    const text = `${n} ${n === 1 ? "chat" : "chats"}. This cannot be undone.`;
    if (n && (await confirmed("Delete all chats?", text, "Delete all"))) onDeleteAll();
  }

  #export() {
    const address = URL.createObjectURL(new Blob([this.#chats.export()], { type: "application/json" }));
    const day = new Date().toISOString().slice(0, 10);
    element("a", { href: address, download: `llorch-chats-${day}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  async #import(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    const n = await this.#chats.import(await file.text());
    this.dialog.close("");
    this.#say(n ? `${n} ${n === 1 ? "chat" : "chats"} imported.` : "There are no chats in this file.");
  }
}

function fieldRow(field) {
  const id = `f-${field.name}`;
  return element(
    "div",
    { class: "field" },
    element("label", { for: id }, field.label),
    element("input", {
      id,
      inputMode: field.isWhole ? "numeric" : field.min < 0 ? "text" : "decimal", // phones' digits lack a minus sign
      autocomplete: "off",
      placeholder: "default",
      "aria-describedby": `${id}-help ${id}-error`,
    }),
    element("p", { class: "help", id: `${id}-help` }, field.help),
    element("p", { class: "field-error", id: `${id}-error` }),
  );
}

function mark(field, text) {
  const input = byId(`f-${field.name}`);
  input.setAttribute("aria-invalid", String(text !== ""));
  byId(`${input.id}-error`).textContent = text;
}
