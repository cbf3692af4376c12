// A question before something is lost.
import { byId } from "./dom.js";

/** Whether the reader agrees. */
export function confirmed(title, text, action) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-ok").textContent = action;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise(resolve => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
  });
}

/** Buttons that close their dialog, and a click beside it, which does so too. */
export function installDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    for (const button of dialog.querySelectorAll("[data-close]")) {
      button.addEventListener("click", () => dialog.close(""));
    }
    dialog.addEventListener("pointerdown", event => event.target === dialog && dialog.close(""));
  }
}
