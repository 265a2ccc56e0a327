// The dates above the cells.

import { el } from "./dom.js";
import { ticks } from "./calendar-time.js";

const LEAST_SPACE = [34, 26]; // Pixels between labels of the upper and of the lower line.

/** Show the labels of these cells. */
export function drawAxis(axis, zoom, starts, pitch) {
  const next = [-Infinity, -Infinity];
  const all = ticks(zoom, starts);
  const labels = all.filter((tick, index) => {
    const x = tick.cell * pitch;
    // A label that the next one of its line would touch gives way, if it only stands for the cut at the left.
    const follower = all.slice(index + 1).find((one) => one.level === tick.level);
    const room = textWidth(tick);
    if (tick.cell === 0 && tick.level === 0 && follower && follower.cell * pitch < room)
      return false;
    if (x < next[tick.level]) return false;
    next[tick.level] = x + Math.max(LEAST_SPACE[tick.level], room);
    return x + room - 8 <= starts.length * pitch;
  });
  axis.replaceChildren(
    ...labels.map((tick) => {
      const label = el("span", { class: tick.level ? "tick minor" : "tick major" }, tick.text);
      label.style.left = `${tick.cell * pitch}px`;
      return label;
    }),
  );
}

function textWidth(tick) {
  return tick.text.length * (tick.level ? 6.2 : 6.9) + 8;
}
