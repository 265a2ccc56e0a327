// Draws the cells of one row, and says in words what a cell holds.

import { cssValue } from "./dom.js";
import * as format from "./format.js";

/** The states of the API, by number. */
export const STATES = [
  { name: "Not due", key: "not-due", text: "nothing is due" },
  { name: "Complete", key: "complete", text: "every due candle is stored" },
  { name: "Refilled", key: "refilled", text: "complete: what the stream missed was fetched" },
  { name: "Unaccounted", key: "unaccounted", text: "neither stored nor explained" },
  { name: "Absent", key: "absent", text: "not to be had, for a known reason" },
  { name: "Pending", key: "pending", text: "being fetched again" },
];
const LEAST_SHARE = 2.5; // Pixels: a single bad series of thousands must be seen.
let colours = null;
let holeColour = "";

/** Forget the colours: the theme has changed. */
export function forgetColours() {
  colours = null;
}

function palette() {
  if (!colours) {
    colours = STATES.map((state) => cssValue(`--state-${state.key}`));
    holeColour = cssValue("--paper");
  }
  return colours;
}

/** Return one entry a cell: [state, due, refilled, pending, absent, unaccounted, reasons] or [state]. */
export function cellsOf(row) {
  const cells = [];
  for (const [state, count, ...counts] of row.runs) {
    const cell = [state, ...counts];
    for (let number = 0; number < count; number += 1) cells.push(cell);
  }
  return cells;
}

/** Draw all cells of a row. `pitch` is the width of a cell with its gap, in CSS pixels. */
export function draw(canvas, cells, { pitch, height, isGroup }) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  const width = Math.ceil(pitch * cells.length);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const space = pitch >= 7 ? 2 : pitch >= 4 ? 1 : 0;
  const size = isGroup ? Math.min(20, height) : Math.min(14, height);
  const top = Math.round((height - size) / 2);
  const snap = (x) => Math.round(x * ratio) / ratio;
  cells.forEach((cell, number) => {
    const left = snap(number * pitch);
    const wide = snap((number + 1) * pitch - space) - left;
    if (isGroup && cell[0] > 1) drawShares(pen, cell, left, top, wide, size, space);
    else drawState(pen, cell[0], left, top, wide, size, space);
  });
}

function box(pen, x, y, width, height, radius) {
  pen.beginPath();
  if (radius) pen.roundRect(x, y, width, height, radius);
  else pen.rect(x, y, width, height);
}

function drawState(pen, state, x, y, width, height, space) {
  const radius = space ? Math.min(2.5, width / 4) : 0;
  pen.fillStyle = pen.strokeStyle = palette()[state];
  if (state === 3 && width >= 5) {
    // Hollow.
    pen.lineWidth = 1.75;
    box(pen, x + 0.875, y + 0.875, width - 1.75, height - 1.75, radius);
    pen.stroke();
    return;
  }
  if (state === 0) {
    // A dot only: nothing is due here.
    const dot = Math.min(width, 2);
    pen.fillRect(x + (width - dot) / 2, y + (height - dot) / 2, dot, dot);
    return;
  }
  box(pen, x, y, width, height, radius);
  pen.fill();
  if (state === 4 && width >= 6) {
    // A hole: forms help where colours look alike.
    pen.fillStyle = holeColour;
    pen.beginPath();
    pen.arc(x + width / 2, y + height / 2, 1.75, 0, 2 * Math.PI);
    pen.fill();
  }
}

/** A group's cell: from below the shares of what is wrong; what was refilled, if nothing is wrong. */
function drawShares(pen, cell, x, y, width, height, space) {
  const [, due, refilled, pending, absent, unaccounted] = cell;
  const colour = palette();
  pen.save();
  box(pen, x, y, width, height, space ? Math.min(2.5, width / 4) : 0);
  pen.clip();
  pen.fillStyle = colour[1];
  pen.fillRect(x, y, width, height);
  let base = y + height;
  const wrong = [
    [pending, 5],
    [absent, 4],
    [unaccounted, 3],
  ];
  for (const [count, state] of pending + absent + unaccounted ? wrong : [[refilled, 2]]) {
    if (!count) continue;
    const tall = Math.max(LEAST_SHARE, (height * count) / Math.max(1, due));
    pen.fillStyle = colour[state];
    pen.fillRect(x, base - tall, width, tall);
    base -= tall;
  }
  pen.restore();
}

/** Return what a cell holds as lines: {state, text}. */
export function cellLines(cell, reasons) {
  const [state, due, refilled, pending, absent, unaccounted, why] = cell;
  if (due === undefined)
    return [
      { state, text: state === 0 ? "Nothing is due" : "Complete: every due candle is stored" },
    ];
  const because = why?.length ? why.map((one) => reasons[one]).join(", ") : "";
  const lines = [];
  const stored = due - pending - absent - unaccounted;
  lines.push({
    state: stored === due && !refilled ? 1 : null,
    text: `${format.whole(stored)} of ${format.counted(due, "candle")} stored`,
  });
  if (pending) lines.push({ state: 5, text: `${format.whole(pending)} pending` });
  if (absent) lines.push({ state: 4, text: `${format.whole(absent)} absent` });
  if (unaccounted) lines.push({ state: 3, text: `${format.whole(unaccounted)} unaccounted for` });
  if (refilled) lines.push({ state: 2, text: `${format.whole(refilled)} refilled` });
  if (because) lines.push({ state: null, text: `Why: ${because}` });
  return lines;
}

/** Return what a whole row holds, in words. */
export function rowText(row, reasons, zoom) {
  const cells = cellsOf(row);
  const noun = zoom;
  const parts = STATES.map((state, number) => [
    cells.filter((cell) => cell[0] === number).length,
    state,
  ])
    .filter(([count, state]) => count && state.key !== "not-due")
    .map(([count, state]) => `${format.counted(count, noun)} ${state.name.toLowerCase()}`);
  const why = new Set(row.runs.flatMap((run) => run[7] ?? []).map((one) => reasons[one]));
  const because = why.size ? `. Reasons: ${[...why].join(", ")}` : "";
  return `${format.percent(row.percent)} % of all time; in view ${parts.join(", ") || "nothing due"}${because}`;
}
