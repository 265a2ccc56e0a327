// The rows of the calendar on the screen: only those in view exist; one focus moves over rows and cells.

import { cellLines, cellsOf, draw, rowText } from "./calendar-cells.js";
import { cellName } from "./calendar-time.js";
import { byId, el, glyph, put } from "./dom.js";
import * as format from "./format.js";
import { seriesAddress } from "./router.js";
import { hideNote, showNote } from "./tooltip.js";

const OVERSCAN = 6;
const LABEL = -1; // The "cell" that is the label of a row.
const NARROW = matchMedia("(max-width: 700px)");

export class Grid {
  #rows;
  #body;
  #space;
  #act;
  #shown = new Map(); // row number -> element
  #free = [];
  #active = { row: 0, cell: null };
  #mark;
  #frame = 0;
  #drawing = 0; // Grows when all must be drawn again.
  #touched = "";
  zoom = "day";
  pitch = 12;

  /** `act` has open(row, cell), toggle(row) and shift(cells). */
  constructor(rows, act) {
    this.#rows = rows;
    this.#act = act;
    this.#space = el("div", { class: "grid-space", role: "rowgroup" });
    this.#body = el(
      "div",
      {
        class: "grid",
        role: "treegrid",
        tabindex: 0,
        "aria-label": "Completeness of each series. Arrow keys move, Enter opens, Space folds.",
        "aria-readonly": "true",
      },
      this.#space,
    );
    this.#mark = el("div", { class: "cell-mark", role: "gridcell" });
    this.#body.addEventListener(
      "scroll",
      () => {
        hideNote();
        this.schedule();
      },
      { passive: true },
    );
    this.#body.addEventListener("keydown", (event) => this.#key(event));
    this.#body.addEventListener("focus", () => {
      if (this.#active.cell === null) this.#active.cell = this.#rows.starts.length - 1;
      this.#activate({ isSeen: this.#body.matches(":focus-visible") });
    });
    this.#body.addEventListener("blur", () => {
      this.#leave();
      this.#mark.remove();
      this.#body.removeAttribute("aria-activedescendant");
    });
    this.#space.addEventListener("pointermove", (event) => this.#point(event));
    this.#space.addEventListener("pointerleave", () => this.#leave());
    this.#space.addEventListener("click", (event) => this.#click(event));
  }

  get element() {
    return this.#body;
  }

  /** Return the height of a row in pixels. */
  get rowHeight() {
    return NARROW.matches ? 44 : 25;
  }

  /** Return the first row in view, or null. */
  get topRow() {
    return (
      this.#rows.row(Math.max(0, Math.floor(this.#body.scrollTop / this.rowHeight)))?.row ?? null
    );
  }

  /** Draw all cells again: the width, the zoom or the theme has changed. */
  redraw() {
    this.#drawing += 1;
    this.schedule();
  }

  schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#show();
    });
  }

  scrollToTop() {
    this.#body.scrollTop = 0;
  }

  #show() {
    const { total } = this.#rows;
    const height = this.rowHeight;
    this.#body.style.setProperty("--row", `${height}px`);
    this.#space.style.height = `${total * height}px`;
    this.#body.setAttribute("aria-rowcount", String(total));
    const first = Math.max(0, Math.floor(this.#body.scrollTop / height) - OVERSCAN);
    const last = Math.min(
      total - 1,
      Math.ceil((this.#body.scrollTop + (this.#body.clientHeight || 500)) / height) + OVERSCAN,
    );
    for (const [number, element] of this.#shown) {
      if (number < first || number > last) {
        this.#shown.delete(number);
        element.remove();
        this.#free.push(element);
      }
    }
    while (this.#free.length > 80) this.#free.pop();
    for (let number = first; number <= last; number += 1) this.#place(number, height);
    if (total) this.#rows.need(first, last);
    if (document.activeElement === this.#body) this.#activate({ isSeen: false, isMoved: false });
    this.#act.shown();
  }

  #place(number, height) {
    let element = this.#shown.get(number);
    if (!element) {
      element = this.#free.pop() ?? rowElement();
      element.style.transform = `translateY(${number * height}px)`;
      element.dataset.number = String(number);
      element.setAttribute("aria-rowindex", String(number + 1));
      element.shown = null;
      this.#shown.set(number, element);
      this.#space.append(element);
    } else element.style.transform = `translateY(${number * height}px)`;
    const found = this.#rows.row(number);
    if (!found) {
      element.className = "row is-waiting";
      element.parts.canvas.width = 0;
      put(element.parts.percent, "");
      element.parts.label.replaceChildren();
      element.shown = null;
      return;
    }
    if (element.shown?.row === found.row && element.shown.drawing === this.#drawing) return;
    fill(element, found.row);
    draw(element.parts.canvas, cellsOf(found.row), {
      pitch: this.pitch,
      height: NARROW.matches ? 20 : 20,
      isGroup: found.row.kind !== "series",
    });
    element.parts.cells.setAttribute("aria-label", rowText(found.row, found.reasons, this.zoom));
    element.shown = { row: found.row, drawing: this.#drawing };
  }

  #at(event) {
    const element = event.target.closest?.(".row");
    const found = element && this.#rows.row(Number(element.dataset.number));
    if (!found) return null;
    const box = element.parts.canvas.getBoundingClientRect();
    const cell = Math.floor((event.clientX - box.left) / this.pitch);
    const isCell =
      event.target.closest(".cells") !== null && cell >= 0 && cell < this.#rows.starts.length;
    return {
      ...found,
      element,
      number: Number(element.dataset.number),
      cell: isCell ? cell : LABEL,
      box,
    };
  }

  #point(event) {
    if (event.pointerType === "touch") return;
    const at = this.#at(event);
    if (!at || at.cell === LABEL) {
      this.#leave();
      return;
    }
    this.#note(at.row, at.reasons, at.cell, at.box);
    this.#act.hovered(at.cell);
  }

  #leave() {
    hideNote();
    this.#act.hovered(null);
  }

  #click(event) {
    const at = this.#at(event);
    if (!at) return;
    this.#active = { row: at.number, cell: at.cell };
    if (at.cell === LABEL) {
      if (event.target.closest("a")) return;
      if (at.row.kind !== "series") this.#act.toggle(at.row);
      return;
    }
    const name = `${at.row.key} ${this.#rows.starts[at.cell]}`;
    if (event.pointerType === "touch" && this.#touched !== name) {
      // A finger cannot hover: the first touch tells, the second opens.
      this.#touched = name;
      this.#activate({ isSeen: false });
      this.#note(at.row, at.reasons, at.cell, at.box, "Touch again to open");
      return;
    }
    hideNote();
    this.#act.open(at.row, at.cell);
  }

  #note(row, reasons, cell, box, hint = null) {
    const held = cellsOf(row)[cell];
    if (!held) return;
    const { starts } = this.#rows;
    const lines = cellLines(held, reasons);
    if (hint) lines.push({ state: null, text: hint });
    const name = cellName(this.zoom, starts[cell], starts[cell + 1] ?? this.#rows.end);
    const beside = {
      left: box.left + cell * this.pitch,
      width: this.pitch,
      top: box.top,
      bottom: box.bottom,
    };
    showNote(name, rowName(row), lines, beside);
  }

  #key(event) {
    if (event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.#body.clientHeight / this.rowHeight) - 1);
    const { row, cell } = this.#active;
    const last = this.#rows.starts.length - 1;
    const found = this.#rows.row(row)?.row;
    const isGroup = found && found.kind !== "series";
    const to = (nextRow, nextCell = cell) => this.#move(nextRow, nextCell);
    const does = {
      ArrowUp: () => to(row - 1),
      ArrowDown: () => to(row + 1),
      PageUp: () => to(row - page),
      PageDown: () => to(row + page),
      Home: () => (event.ctrlKey ? to(0) : to(row, cell === 0 ? LABEL : 0)),
      End: () => (event.ctrlKey ? to(this.#rows.total - 1) : to(row, last)),
      ArrowLeft: () => {
        if (cell === LABEL && isGroup && found.is_open) this.#act.toggle(found);
        else if (cell === 0 && event.shiftKey) this.#act.shift(-1);
        else to(row, Math.max(LABEL, cell - 1));
      },
      ArrowRight: () => {
        if (cell === LABEL && isGroup && !found.is_open) this.#act.toggle(found);
        else if (cell === last) this.#act.shift(1);
        else to(row, cell + 1);
      },
      " ": () => isGroup && this.#act.toggle(found),
      Enter: () => {
        if (!found) return;
        if (cell === LABEL && isGroup) this.#act.toggle(found);
        else this.#act.open(found, cell);
      },
      Escape: () => hideNote(),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  #move(row, cell) {
    this.#active = { row: Math.min(Math.max(0, row), Math.max(0, this.#rows.total - 1)), cell };
    const height = this.rowHeight;
    const top = this.#active.row * height;
    const { scrollTop, clientHeight } = this.#body;
    if (top < scrollTop) this.#body.scrollTop = top;
    else if (top + height > scrollTop + clientHeight)
      this.#body.scrollTop = top + height - clientHeight;
    this.#show();
    this.#activate({ isSeen: true });
  }

  /** Point the focus at the active row or cell. */
  #activate({ isSeen, isMoved = true }) {
    const element = this.#shown.get(this.#active.row);
    const found = this.#rows.row(this.#active.row);
    if (!element || !found) {
      this.#body.removeAttribute("aria-activedescendant");
      this.#mark.remove();
      return;
    }
    const last = this.#rows.starts.length - 1;
    const cell = Math.min(this.#active.cell ?? last, last);
    this.#mark.style.left = `${cell === LABEL ? 0 : cell * this.pitch}px`;
    this.#mark.style.width = `${cell === LABEL ? 0 : this.pitch}px`;
    element.classList.toggle("is-label-active", cell === LABEL);
    for (const other of this.#shown.values())
      if (other !== element) other.classList.remove("is-label-active");
    if (cell === LABEL) {
      this.#mark.remove();
      element.parts.label.id = "active-cell";
      this.#body.setAttribute("aria-activedescendant", "active-cell");
      return;
    }
    byId("active-cell")?.removeAttribute("id");
    const held = cellsOf(found.row)[cell] ?? [0];
    const { starts, end } = this.#rows;
    const text = cellLines(held, found.reasons)
      .map((line) => line.text)
      .join(", ");
    this.#mark.setAttribute(
      "aria-label",
      `${rowName(found.row)}, ${cellName(this.zoom, starts[cell], starts[cell + 1] ?? end)}: ${text}`,
    );
    // Another id for another cell: a screen reader then reads it.
    this.#mark.id = `cell-${this.#active.row}-${cell}`;
    if (this.#mark.parentElement !== element.parts.cells) element.parts.cells.append(this.#mark);
    this.#body.setAttribute("aria-activedescendant", this.#mark.id);
    this.#act.hovered(document.activeElement === this.#body ? cell : null);
    if (isSeen && isMoved)
      this.#note(found.row, found.reasons, cell, element.parts.canvas.getBoundingClientRect());
  }
}

function rowElement() {
  const label = el("div", { class: "label", role: "rowheader" });
  const canvas = el("canvas", { "aria-hidden": "true" });
  const cells = el("div", { class: "cells", role: "gridcell" }, canvas);
  const percent = el("div", { class: "percent", role: "gridcell" });
  const row = el("div", { class: "row", role: "row" }, label, cells, percent);
  row.parts = { label, canvas, cells, percent };
  return row;
}

function fill(element, row) {
  const { label, percent } = element.parts;
  const isGroup = row.kind !== "series";
  element.className = `row is-${row.kind} depth-${row.depth}`;
  element.setAttribute("aria-level", String(row.depth + 1));
  if (isGroup) element.setAttribute("aria-expanded", String(row.is_open));
  else element.removeAttribute("aria-expanded");
  put(percent, format.percent(row.percent));
  percent.classList.toggle("is-whole", row.percent >= 100);
  percent.setAttribute("aria-label", `${format.percent(row.percent)} % complete`);
  if (isGroup) {
    label.replaceChildren(
      glyph("glyph-right", row.is_open ? "fold is-open" : "fold"),
      el("span", { class: "name" }, row.label),
      el("span", { class: "members" }, format.whole(row.members)),
    );
    return;
  }
  const { symbol, interval } = format.seriesParts(row.series);
  const isAlone = row.depth < 2;
  const link = el(
    "a",
    { class: "name", href: seriesAddress(row.series), tabindex: -1, data: { view: "" } },
    isAlone ? symbol : interval,
  );
  link.title = rowName(row);
  label.replaceChildren(link, ...(isAlone ? [el("span", { class: "members" }, interval)] : []));
}

function rowName(row) {
  if (!row.series)
    return row.kind === "market"
      ? `${row.label}, ${format.counted(row.members, "series", "series")}`
      : `${row.label}, ${format.market(row.key.split("/")[0])}`;
  const { tradeType, symbol, interval } = format.seriesParts(row.series);
  return `${symbol} ${interval}, ${format.market(tradeType)}`;
}
