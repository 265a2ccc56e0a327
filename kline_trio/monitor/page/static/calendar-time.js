// The cells of the calendar as spans of time: hours, days, weeks from Monday, months (pure).

import * as format from "./format.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const WEEK = 7 * DAY;
const MONDAY = 4 * DAY; // 5 January 1970.

/** Zooms: the most cells that help, the least width of one, and what a cell opens. */
export const ZOOMS = {
  hour: { name: "Hours", most: 168, ms: HOUR },
  day: { name: "Days", most: 184, ms: DAY },
  week: { name: "Weeks", most: 106, ms: WEEK },
  month: { name: "Months", most: 36, ms: 30.4 * DAY },
};

/** Return the begin of the cell that holds a moment. */
export function floor(zoom, ms) {
  if (zoom === "hour") return Math.floor(ms / HOUR) * HOUR;
  if (zoom === "day") return Math.floor(ms / DAY) * DAY;
  if (zoom === "week") return Math.floor((ms - MONDAY) / WEEK) * WEEK + MONDAY;
  const at = new Date(ms);
  return Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), 1);
}

/** Return the begin of the cell so many cells later. */
export function add(zoom, begin, cells) {
  if (zoom !== "month") return begin + cells * ZOOMS[zoom].ms;
  const at = new Date(begin);
  return Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + cells, 1);
}

/** Return the span of `cells` cells of which the last holds the moment before `end`. */
export function windowOf(zoom, end, cells) {
  const to = add(zoom, floor(zoom, end - 1), 1);
  return { from: add(zoom, to, -cells), to };
}

/** Return the name of a cell for people. */
export function cellName(zoom, begin, end) {
  if (zoom === "hour")
    return `${format.weekday(begin)}, ${format.clock(begin, false)} – ${format.clock(end, false)}`;
  if (zoom === "day") return format.weekday(begin);
  if (zoom === "week") return `Week of ${format.weekday(begin)}`;
  return `${format.month(begin)} ${format.year(begin)}`;
}

/** Return the name of the span of all cells. */
export function windowName(zoom, from, to) {
  if (zoom === "month")
    return `${format.month(from)} ${format.year(from)} – ${format.month(to - 1)} ${format.year(to - 1)}`;
  return `${format.day(from)} – ${format.day(to - 1)}`;
}

/** Return the labels above cells: {cell, text, level}; level 0 is the upper line. */
export function ticks(zoom, starts) {
  const found = [];
  starts.forEach((ms, cell) => {
    const at = new Date(ms);
    const before = cell ? new Date(starts[cell - 1]) : null;
    const isNew = (part) => before === null || part(before) !== part(at);
    if (zoom === "hour") {
      if (isNew((one) => one.getUTCDate()))
        found.push({ cell, level: 0, text: format.weekday(ms).slice(0, -5) });
      if (at.getUTCHours() % 6 === 0) found.push({ cell, level: 1, text: format.clock(ms, false) });
      return;
    }
    if (zoom === "month") {
      if (isNew((one) => one.getUTCFullYear()))
        found.push({ cell, level: 0, text: format.year(ms) });
      found.push({ cell, level: 1, text: format.month(ms) });
      return;
    }
    if (isNew((one) => one.getUTCMonth())) {
      const isYear = isNew((one) => one.getUTCFullYear());
      found.push({
        cell,
        level: 0,
        text: isYear ? `${format.month(ms)} ${format.year(ms)}` : format.month(ms),
      });
    }
    if (zoom === "day" && at.getUTCDay() === 1)
      found.push({ cell, level: 1, text: String(at.getUTCDate()) });
    if (zoom === "week" && cell % 2 === 0)
      found.push({ cell, level: 1, text: String(at.getUTCDate()) });
  });
  return found;
}

/** Return the zoom that shows what a cell holds, or null if the cell is the smallest. */
export function finer(zoom) {
  return { month: "day", week: "day", day: "hour", hour: null }[zoom];
}
