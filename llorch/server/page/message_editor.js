// The field in which a message is written anew.
import { element } from "./dom.js";
import { fitHeight, sendsOnEnter } from "./text_field.js";

/** A form with `text`; `done` gets the new text, or null if nothing shall change. */
export function editor(text, done) {
  const field = element("textarea", { value: text, rows: 2, dir: "auto", "aria-label": "Edit the message" });
  const send = () => field.value.trim() && done(field.value);
  const form = element(
    "form",
    {
      class: "editor",
      onsubmit: event => {
        event.preventDefault();
        send();
      },
      onkeydown: event => {
        if (event.key !== "Escape" || event.isComposing) return;
        event.stopPropagation(); // it would stop a running answer, too
        done(null);
      },
    },
    field,
    element(
      "div",
      { class: "row" },
      element("button", { type: "button", class: "button", onclick: () => done(null) }, "Cancel"),
      element("button", { type: "submit", class: "button primary" }, "Send"),
    ),
  );
  sendsOnEnter(field, send);
  field.addEventListener("input", () => fitHeight(field));
  requestAnimationFrame(() => fitHeight(field));
  return form;
}
