// Dark and light: the system's choice, until a person chooses. theme-first.js has set the first one.

import { byId } from "./dom.js";

const KEY = "kline_trio.theme";
const ORDER = ["auto", "light", "dark"];
const NAMES = { auto: "the system's", light: "light", dark: "dark" };
const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const listeners = new Set();

/** Run a function whenever colours change: canvases have to be drawn again. */
export function onTheme(run) {
  listeners.add(run);
}

/** Let the button of the header go through system, light and dark. */
export function startTheme() {
  const button = byId("theme");
  const name = () => {
    const text = `Theme: ${NAMES[root.dataset.chosen]}. Change`;
    button.setAttribute("aria-label", text);
    button.title = text;
  };
  button.addEventListener("click", () => {
    const next = ORDER[(ORDER.indexOf(root.dataset.chosen) + 1) % ORDER.length];
    root.dataset.chosen = next;
    remember(next);
    apply();
    name();
  });
  system.addEventListener("change", apply);
  name();
}

function apply() {
  const { chosen } = root.dataset;
  const theme = chosen === "auto" ? (system.matches ? "dark" : "light") : chosen;
  if (theme === root.dataset.theme) return;
  root.dataset.theme = theme;
  for (const run of listeners) run();
}

function remember(chosen) {
  try {
    if (chosen === "auto") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, chosen);
  } catch {
    // Storage may be forbidden: the choice holds until the page is closed.
  }
}
