// One small note beside what the pointer or the focus is at.

import { el } from "./dom.js";

let note = null;

/** Show a title and lines ({state, text}) beside a rectangle of the window. */
export function showNote(title, subtitle, lines, beside) {
  note ??= document.body.appendChild(el("div", { class: "note", "aria-hidden": "true" }));
  note.replaceChildren(
    el("p", { class: "note-title" }, title, subtitle ? el("span", {}, subtitle) : null),
    el(
      "ul",
      {},
      ...lines.map((line) => el("li", { data: { state: line.state ?? "none" } }, line.text)),
    ),
  );
  note.hidden = false;
  const { width, height } = note.getBoundingClientRect();
  const left = Math.min(
    Math.max(8, beside.left + beside.width / 2 - width / 2),
    innerWidth - width - 8,
  );
  const above = beside.top - height - 8;
  note.style.left = `${Math.round(left)}px`;
  note.style.top = `${Math.round(above >= 8 ? above : beside.bottom + 8)}px`;
}

export function hideNote() {
  if (note) note.hidden = true;
}
