// The switch between the system's theme, light and dark.
import { setIcon } from "./dom.js";
import { readLocal, writeLocal } from "./local.js";

const KEY = "llorch.theme";
const THEMES = [
  { name: "system", icon: "i-auto", label: "Theme: as the system. Switch to light" },
  { name: "light", icon: "i-sun", label: "Theme: light. Switch to dark" },
  { name: "dark", icon: "i-moon", label: "Theme: dark. Switch to the system's" },
];

export function installThemeSwitch(button) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = document.querySelector("meta[name=theme-color]");
  let index = Math.max(0, THEMES.findIndex(theme => theme.name === readLocal(KEY)));

  function show() {
    const theme = THEMES[index];
    if (theme.name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme.name;
    setIcon(button, theme.icon);
    button.setAttribute("aria-label", theme.label);
    button.title = theme.label;
    colour.content = getComputedStyle(document.documentElement).getPropertyValue("--paper").trim();
  }

  button.addEventListener("click", () => {
    index = (index + 1) % THEMES.length;
    writeLocal(KEY, THEMES[index].name);
    show();
  });
  dark.addEventListener("change", show);
  show();
}
