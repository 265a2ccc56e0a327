// Dark and light: the system's choice, until a person chooses.

import { byId } from "./dom.js";

const KEY = "kline_trio.theme";
const ORDER = ["auto", "light", "dark"];
const NAMES = { auto: "the system's", light: "light", dark: "dark" };
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

/** Run a function whenever colours change: canvases have to be drawn again. */
export function onTheme(run) {
  listeners.add(run);
  return () => listeners.delete(run);
}

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : system.matches;
}

/** Let the button of the header go through system, light and dark. */
export function startTheme() {
  const button = byId("theme");
  const chosen = () => document.documentElement.dataset.theme ?? "auto";
  const name = () => {
    const text = `Theme: ${NAMES[chosen()]}. Change`;
    button.setAttribute("aria-label", text);
    button.title = text;
  };
  button.addEventListener("click", () => {
    set(ORDER[(ORDER.indexOf(chosen()) + 1) % ORDER.length]);
    name();
  });
  system.addEventListener("change", announce);
  name();
}

function set(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "auto") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // Storage may be forbidden: the choice holds until the page is closed.
  }
  announce();
}

function announce() {
  for (const run of listeners) run();
}
