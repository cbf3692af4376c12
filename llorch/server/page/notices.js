// Words for the reader: a line above the message field, and sentences that only screen readers get.
import { byId, element, iconButton } from "./dom.js";

const MAX_SPOKEN = 2000;

/** {notify(text), announce(text)}. */
export function installNotices() {
  const notice = byId("notice");
  const announcer = byId("announcer");
  const hide = () => {
    notice.hidden = true;
    byId("prompt").focus();
  };
  function notify(text) {
    notice.replaceChildren(element("span", { dir: "auto" }, text), iconButton("i-close", "Close the notice", hide));
    notice.hidden = false;
  }
  function announce(text) {
    // The same sentence twice is a change only with an element of its own.
    announcer.replaceChildren(element("p", {}, text.slice(0, MAX_SPOKEN)));
  }
  return { notify, announce };
}
