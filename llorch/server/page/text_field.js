// Fields of several lines that grow with their text.

/** As high as the text; the style sheet has the limit. */
export function fitHeight(field) {
  if (CSS.supports("field-sizing", "content")) return; // the browser does it
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

/** Enter calls `send`, Shift+Enter begins a line. Enter that ends the input of a character (IME) does neither. */
export function sendsOnEnter(field, send) {
  field.addEventListener("keydown", event => {
    const isComposing = event.isComposing || event.keyCode === 229; // Safari has ended the composition by then
    if (event.key !== "Enter" || event.shiftKey || event.altKey || isComposing) return;
    event.preventDefault();
    send();
  });
}
