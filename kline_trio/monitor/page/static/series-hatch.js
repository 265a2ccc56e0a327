// Hatches what is absent, and says why, on the candlestick chart (a primitive of lightweight-charts).

import { cssValue } from "./dom.js";
import * as format from "./format.js";

const LEAST_WIDTH = 3;
const LINE_SPACE = 7;

export class Hatch {
  #gaps = [];
  #place; // gap -> [left, right] in CSS pixels, or null
  #update = () => {};

  constructor(place) {
    this.#place = place;
  }

  attached({ requestUpdate }) {
    this.#update = requestUpdate;
  }

  detached() {
    this.#update = () => {};
  }

  set gaps(gaps) {
    this.#gaps = gaps;
    this.#update();
  }

  paneViews() {
    const view = (order, draw) => ({
      zOrder: () => order,
      renderer: () => ({
        draw: (target) =>
          target.useMediaCoordinateSpace(({ context, mediaSize }) => draw(context, mediaSize)),
      }),
    });
    return [
      view("bottom", (pen, size) => this.#drawHatches(pen, size)),
      view("top", (pen, size) => this.#drawNames(pen, size)),
    ];
  }

  /** Give each gap in view, oldest first, with its place and colour. */
  *#inView(width) {
    const colour = {
      pending: cssValue("--state-pending"),
      filled: cssValue("--state-refilled"),
      closed: cssValue("--state-absent"),
    };
    for (const gap of [...this.#gaps].reverse()) {
      const [from, to] = this.#place(gap);
      if (to < 0 || from > width) continue;
      const left = Math.max(-20, to - from < LEAST_WIDTH ? (from + to - LEAST_WIDTH) / 2 : from);
      const right = Math.min(width + 20, Math.max(to, left + LEAST_WIDTH));
      yield { gap, left, right, state: colour[gap.state] ?? colour.closed };
    }
  }

  /** Below all: what became of each gap as a line in its colour; above the hatches their names. */
  #drawNames(pen, { width, height }) {
    const ink = cssValue("--ink-muted");
    let named = -Infinity; // The right end of the last name.
    for (const { gap, left, right, state } of this.#inView(width)) {
      pen.fillStyle = state;
      pen.fillRect(left, height - 3, right - left, 3);
      if (gap.state !== "filled")
        named = this.#name(pen, gap, Math.max(0, left), Math.min(width, right), {
          ink,
          named,
          width,
        });
    }
  }

  #drawHatches(pen, { width, height }) {
    const line = cssValue("--hatch");
    for (const { gap, left, right, state } of this.#inView(width)) {
      if (gap.state === "filled") continue;
      pen.save();
      pen.beginPath();
      pen.rect(left, 0, right - left, height);
      pen.clip();
      pen.globalAlpha = 0.1;
      pen.fillStyle = state;
      pen.fillRect(left, 0, right - left, height);
      pen.globalAlpha = right - left > 6 ? 0.4 : 0.75;
      pen.strokeStyle = line;
      pen.lineWidth = 1;
      pen.beginPath();
      // Lines of one lattice, so that the pattern stands still while the chart moves under it.
      for (
        let x = Math.floor((left - height) / LINE_SPACE) * LINE_SPACE;
        x < right;
        x += LINE_SPACE
      ) {
        pen.moveTo(x, height);
        pen.lineTo(x + height, 0);
      }
      pen.stroke();
      pen.restore();
    }
  }

  /** Write why the candles are absent, unless the gap is a hair or another name is in the way. */
  #name(pen, gap, left, right, { ink, named, width }) {
    pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const lines = [
      gap.reason,
      `${format.counted(gap.candles, "candle")} ${gap.state === "pending" ? "pending" : "absent"}`,
    ];
    const wide = Math.max(...lines.map((text) => pen.measureText(text).width)) + 16;
    const x = Math.min(Math.max((left + right) / 2, wide / 2 + 2), width - wide / 2 - 2);
    if (right - left < 8 || x - wide / 2 < named + 6) return named;
    pen.fillStyle = cssValue("--paper");
    pen.globalAlpha = 0.85;
    pen.beginPath();
    pen.roundRect(x - wide / 2, 34, wide, 38, 5);
    pen.fill();
    pen.globalAlpha = 1;
    pen.fillStyle = ink;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    lines.forEach((text, index) => pen.fillText(text, x, 45 + index * 16));
    return x + wide / 2;
  }
}
