// The whole life of a series as one row of the calendar, with the part that the chart shows.

import { get, isAborted } from "./api.js";
import { cellLines, cellsOf, draw, rowText } from "./calendar-cells.js";
import { add, cellName, floor, ZOOMS } from "./calendar-time.js";
import { el } from "./dom.js";
import * as format from "./format.js";
import { onTheme } from "./theme.js";
import { hideNote, showNote } from "./tooltip.js";

const LEAST_PITCH = 3;
const HEIGHT = 20;

export class SeriesStrip {
  #box;
  #canvas = el("canvas", { "aria-hidden": "true" });
  #brush = el("div", { class: "brush" });
  #begin = el("span");
  #room;
  #open;
  #held = null;
  #stop = null;
  #span = null;

  /** `open` runs with the span of a cell that was chosen. */
  constructor(open) {
    this.#open = open;
    this.#room = el("div", { class: "strip-cells", role: "img" }, this.#canvas, this.#brush);
    this.#box = el(
      "div",
      { class: "strip" },
      this.#room,
      el("div", { class: "strip-foot" }, this.#begin, el("span", {}, "now")),
    );
    this.#room.addEventListener("pointermove", (event) => this.#point(event));
    this.#room.addEventListener("pointerleave", hideNote);
    this.#room.addEventListener("click", (event) => {
      const cell = this.#cellAt(event);
      if (cell) this.#open(cell.from, cell.to);
    });
    onTheme(() => this.#draw());
    new ResizeObserver(() => this.#draw()).observe(this.#room);
  }

  get element() {
    return this.#box;
  }

  /** Fetch the life of a series. */
  async show(key, first, last) {
    this.#stop?.abort();
    const stop = new AbortController();
    this.#stop = stop;
    const most = Math.max(20, Math.floor((this.#room.clientWidth || 800) / LEAST_PITCH));
    const zoom =
      ["hour", "day", "week", "month"].find(
        (one) => (last - first) / ZOOMS[one].ms <= Math.min(most, 1400),
      ) ?? "month";
    const { tradeType, symbol, interval } = format.seriesParts(key);
    const query = {
      zoom,
      from_ms: floor(zoom, first),
      to_ms: add(zoom, floor(zoom, last - 1), 1),
      q: `${tradeType} ${symbol} ${interval}`,
      open: `${tradeType}/${symbol}`,
      limit: 200,
    };
    try {
      const answer = await get("calendar", query, stop.signal);
      const row = answer.rows.find((one) => one.series === key);
      const isWorth = row && answer.starts_ms.length >= 8;
      this.#held = isWorth ? { row, answer, zoom, cells: cellsOf(row) } : null;
      this.#begin.textContent = format.day(first);
      this.#draw();
    } catch (error) {
      if (!isAborted(error)) this.#held = null;
    }
  }

  /** Show which span the chart has. */
  brush(from, to) {
    this.#span = { from, to };
    const { starts_ms: starts, end_ms: end } = this.#held?.answer ?? {};
    if (!starts?.length) return;
    const part = (ms) => Math.min(1, Math.max(0, (ms - starts[0]) / (end - starts[0])));
    this.#brush.style.left = `${part(from) * 100}%`;
    this.#brush.style.width = `max(4px, ${(part(to) - part(from)) * 100}%)`;
  }

  clear() {
    this.#stop?.abort();
    this.#held = null;
    this.#canvas.width = 0;
  }

  get #pitch() {
    return this.#room.clientWidth / this.#held.cells.length;
  }

  #draw() {
    this.#box.classList.toggle("is-empty", !this.#held);
    if (!this.#held || !this.#room.clientWidth) return;
    draw(this.#canvas, this.#held.cells, { pitch: this.#pitch, height: HEIGHT, isGroup: false });
    this.#room.setAttribute(
      "aria-label",
      `Completeness since ${this.#begin.textContent}: ${rowText(this.#held.row, this.#held.answer.reasons, this.#held.zoom)}`,
    );
    if (this.#span) this.brush(this.#span.from, this.#span.to);
  }

  #cellAt(event) {
    if (!this.#held) return null;
    const box = this.#room.getBoundingClientRect();
    const number = Math.floor((event.clientX - box.left) / this.#pitch);
    const { starts_ms: starts, end_ms: end } = this.#held.answer;
    if (!this.#held.cells[number]) return null;
    return { number, from: starts[number], to: starts[number + 1] ?? end, box };
  }

  #point(event) {
    const cell = this.#cellAt(event);
    if (!cell) return;
    const { zoom, answer, cells } = this.#held;
    const beside = {
      left: cell.box.left + cell.number * this.#pitch,
      width: this.#pitch,
      top: cell.box.top,
      bottom: cell.box.bottom,
    };
    showNote(
      cellName(zoom, cell.from, cell.to),
      null,
      cellLines(cells[cell.number], answer.reasons),
      beside,
    );
  }
}
