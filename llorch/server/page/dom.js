// Elements from JavaScript. Texts become text nodes and nothing else.

const SVG = "http://www.w3.org/2000/svg";

export const byId = id => document.getElementById(id);

/** An element with properties (`class`, `on…` and `aria-…`, `data-…` attributes included) and children. */
export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  // First, because `dir=auto` looks at all of the text again with each child that comes after it.
  node.append(...children.filter(child => child !== null && child !== undefined));
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else if (key.includes("-") || key === "role" || key === "for") node.setAttribute(key, value);
    else node[key] = value;
  }
  return node;
}

/** A symbol of the page as an image that screen readers skip. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${name}`);
  svg.append(use);
  return svg;
}

export function setIcon(button, name) {
  button.querySelector("use").setAttribute("href", `#${name}`);
}

/** A button with an icon and a name for those who do not see it. */
export function iconButton(symbol, label, onclick, properties = {}) {
  return element(
    "button",
    { type: "button", class: "icon-button", title: label, "aria-label": label, onclick, ...properties },
    icon(symbol),
  );
}

/** `text` in the clipboard; without a secure context only the old command works. */
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // The permission may be denied: the old command is left.
    }
  }
  const area = element("textarea", { value: text, class: "hidden", "aria-hidden": "true" });
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}

/** A button that copies what `read` gives, and says that it has. */
export function copyButton(label, read, announce, properties = {}) {
  let timer = 0;
  const button = iconButton("i-copy", label, async () => {
    const done = await copyText(read());
    announce(done ? "Copied." : "The browser does not allow copying.");
    setIcon(button, done ? "i-check" : "i-close");
    clearTimeout(timer);
    timer = setTimeout(() => setIcon(button, "i-copy"), 1500);
  }, properties);
  return button;
}
