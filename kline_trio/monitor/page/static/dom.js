// Makes elements. Text is only ever set as text: an exchange may send "<script>" as a symbol.

const SVG = "http://www.w3.org/2000/svg";

/** Return a new element. Attributes: `class`, `on` (listeners), `data`, others by name; null and false are left out. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on")
      for (const [event, run] of Object.entries(value)) made.addEventListener(event, run);
    else if (name === "data") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Return an SVG element that shows a symbol of index.html. */
export function glyph(id, className = "glyph") {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#${id}`);
  svg.append(use);
  return svg;
}

/** Set an element's text if it differs: an unchanged page is not laid out again. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return the element with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Return a function that runs another one after a pause in its calls. */
export function debounce(run, milliseconds) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), milliseconds);
  };
}

/** Load a style sheet, once; the promise ends when it holds. */
export function loadStyle(path) {
  return load(path, () => el("link", { rel: "stylesheet", href: path }));
}

/** Load a classic script, once. */
export function loadScript(path) {
  return load(path, () => el("script", { src: path }));
}

const loaded = new Map();

function load(path, make) {
  if (!loaded.has(path)) {
    loaded.set(
      path,
      new Promise((done, failed) => {
        const element = make();
        element.addEventListener("load", done);
        element.addEventListener("error", () => {
          loaded.delete(path);
          element.remove();
          failed(new Error(`${path} did not come`));
        });
        document.head.append(element);
      }),
    );
  }
  return loaded.get(path);
}

/** Return the value of a CSS custom property, for canvases. */
export function cssValue(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Return a named table that scrolls by itself; a head is its text and the class of its column. */
export function table(name, heads, rows) {
  return el(
    "div",
    { class: "table-box", tabindex: 0, role: "group", "aria-label": name },
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el("tr", {}, ...heads.map(([text, kind]) => el("th", { scope: "col", class: kind }, text))),
      ),
      el("tbody", {}, ...rows),
    ),
  );
}
