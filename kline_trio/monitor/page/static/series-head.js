// The frame of a series' page: its parts, and what stands above the chart.

import { byId, el, glyph, put } from "./dom.js";
import * as format from "./format.js";
import { seriesAddress } from "./router.js";

/** Return the parts of the page of a series, put into a box. */
export function buildParts(box) {
  const arrow = (glyphName, key) =>
    el(
      "a",
      { class: "icon-button", data: { view: "" }, "aria-keyshortcuts": key },
      glyph(glyphName),
    );
  const panel = (name) => el("section", { class: "panel", "aria-label": name });
  const parts = {
    name: el("h2", { class: "series-name", tabindex: -1 }),
    market: el("span", { class: "series-market" }),
    back: el(
      "a",
      { class: "text-button back", href: "./", data: { view: "" } },
      glyph("glyph-left"),
      "All series",
    ),
    price: el("span", { class: "price" }),
    at: el("span", { class: "price-at" }),
    previous: arrow("glyph-left", "["),
    next: arrow("glyph-right", "]"),
    figures: el("dl", { class: "figures" }),
    spans: el("div", { class: "segments", role: "group", "aria-label": "Span in view" }),
    step: el("span", { class: "step" }),
    links: el("span", { class: "links" }),
    legend: el("p", { class: "candle-legend", "aria-hidden": "true" }),
    chart: el("div", { class: "chart", tabindex: 0, role: "group" }),
    strip: el("div"),
    problem: el("p", { class: "empty", role: "status" }),
    gaps: panel("Gaps"),
    revisions: panel("Revisions"),
    files: panel("Files"),
    events: panel("Events"),
    body: el("div", { hidden: true }),
  };
  const gap = () => el("span", { class: "gap" });
  parts.body.append(
    parts.figures,
    el(
      "section",
      { class: "chart-section", "aria-label": "Candles" },
      el("div", { class: "section-head" }, parts.spans, parts.step, parts.links),
      el("div", { class: "chart-room" }, parts.legend, parts.chart),
      parts.strip,
    ),
    el(
      "div",
      { class: "columns" },
      el("div", {}, parts.gaps, parts.revisions),
      el("div", {}, parts.files, parts.events),
    ),
  );
  box.append(
    el(
      "nav",
      { class: "crumbs", "aria-label": "Series" },
      parts.back,
      gap(),
      parts.previous,
      parts.next,
    ),
    el("header", { class: "series-head" }, parts.name, parts.market, gap(), parts.price, parts.at),
    parts.problem,
    parts.body,
  );
  return parts;
}

/** Name a series, before anything else is known of it. */
export function showName(parts, key) {
  const { tradeType, symbol, interval } = format.seriesParts(key);
  parts.name.replaceChildren(symbol, " ", el("span", {}, interval));
  put(parts.market, format.market(tradeType));
  put(parts.price, "");
  put(parts.at, "");
  put(parts.step, "");
  put(byId("title"), `${symbol} ${interval}, ${format.market(tradeType)}`);
}

/** Return the time from the first to the last candle, in milliseconds. */
export function bounds(summary) {
  const first = Math.min(summary.first_ms ?? Infinity, summary.candles_from_ms ?? Infinity);
  const last = Math.max(summary.last_ms ?? 0, summary.candles_to_ms ?? 0);
  return { first: first === Infinity ? 0 : first, last };
}

/** Show the counts of a series, and the ways to its neighbours. */
export function showSummary(parts, summary) {
  neighbour(parts.previous, summary.previous, "Previous series");
  neighbour(parts.next, summary.next, "Next series");
  const { first, last } = bounds(summary);
  const percent = summary.percent === null ? format.NONE : `${format.percent(summary.percent)} %`;
  const figures = [
    ["Complete", percent],
    ["Stored", format.whole(summary.stored), `of ${format.whole(summary.due)}`],
    ["Refilled", format.whole(summary.refilled)],
    ["Pending", format.whole(summary.pending), "", "pending"],
    ["Absent", format.whole(summary.absent), "", "absent"],
  ];
  if (summary.unaccounted) {
    figures.push(["Unaccounted", format.whole(summary.unaccounted), "", "unaccounted"]);
  }
  figures.push(
    ["First due", first ? format.day(first) : format.NONE],
    ["Last due", last ? format.moment(last) : format.NONE],
  );
  parts.figures.replaceChildren(...figures.map((one) => figure(summary, ...one)));
}

function figure(summary, name, value, small = "", key = null) {
  return el(
    "div",
    { class: key && summary[key] ? "is-marked" : null, data: key ? { key } : {} },
    el("dt", {}, name),
    el("dd", {}, el("b", {}, value), small ? el("small", {}, small) : null),
  );
}

function neighbour(link, key, text) {
  link.classList.toggle("is-off", !key);
  if (!key) {
    link.removeAttribute("href");
    link.removeAttribute("title");
    link.setAttribute("role", "link");
    link.setAttribute("aria-disabled", "true");
    link.setAttribute("aria-label", `${text}: none`);
    return;
  }
  const { symbol, interval } = format.seriesParts(key);
  link.href = seriesAddress(key);
  link.title = `${text}: ${symbol} ${interval}`;
  link.setAttribute("aria-label", link.title);
  link.removeAttribute("role");
  link.removeAttribute("aria-disabled");
}
