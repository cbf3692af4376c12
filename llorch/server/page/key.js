// The API key: asked for when the server wants one, kept in sessionStorage until the tab is closed.
import { byId } from "./dom.js";

const NAME = "llorch.key";
let kept = null; // where sessionStorage is forbidden
let asking = null;

export function readKey() {
  try {
    return sessionStorage.getItem(NAME) ?? kept;
  } catch {
    return kept;
  }
}

function keep(key) {
  kept = key;
  try {
    if (key === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, key);
  } catch {
    // `kept` has it for as long as the page is open.
  }
}

export const forgetKey = () => keep(null);

/** Whether the reader has given a key. Requests that ask at the same time share one dialog. */
export function askForKey(isWrong) {
  asking ??= open(isWrong).finally(() => (asking = null));
  return asking;
}

function open(isWrong) {
  const dialog = byId("key-dialog");
  const field = byId("key");
  field.value = "";
  byId("key-error").textContent = isWrong ? "The server does not know this key." : "";
  dialog.returnValue = "";
  dialog.showModal();
  field.focus();
  return new Promise(resolve => {
    dialog.addEventListener(
      "close",
      () => {
        // A header takes no other characters than these.
        const key = field.value.trim().replace(/[^\x21-\x7e\xa1-\xff ]/g, "");
        field.value = "";
        if (dialog.returnValue === "ok" && key) keep(key);
        resolve(dialog.returnValue === "ok" && key !== "");
      },
      { once: true },
    );
  });
}
