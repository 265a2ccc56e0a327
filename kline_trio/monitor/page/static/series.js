// The page of one series: chart, life, gaps, revisions, files and events.

import { address, get, isAborted } from "./api.js";
import { debounce, el, glyph, put } from "./dom.js";
import { EventsView } from "./events.js";
import * as format from "./format.js";
import { gapTable, GAP_STATES } from "./gaps.js";
import { changed, go, parameters, seriesAddress } from "./router.js";
import { SeriesChart } from "./series-chart.js";
import { SeriesStrip } from "./series-strip.js";
import { fileTable, revisionTable } from "./series-tables.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const SPANS = [["1 h", HOUR], ["6 h", 6 * HOUR], ["1 d", DAY], ["1 w", 7 * DAY], ["1 M", 30 * DAY], ["3 M", 91 * DAY], ["1 y", 365 * DAY]];
const MOST_GAPS = 200;

export class SeriesView {
  #status;
  #parts = {};
  #chart;
  #strip;
  #events = null;
  #key = null;
  #span = ""; // The span of the address that is shown.
  #summary = null;
  #version = null;
  #stop = null;
  #last = null;
  #address = debounce((from, to, isNewest) => this.#remember(from, to, isNewest), 350);

  constructor(box, status) {
    this.#status = status;
    this.#build(box);
    this.#strip = new SeriesStrip((from, to) => go(changed({ from, to })));
    this.#parts.strip.replaceWith(this.#strip.element);
    this.#chart = new SeriesChart(this.#parts.chart, {
      hovered: (bar, gap, ms) => this.#legend(bar, gap, ms),
      moved: (from, to, { isNewest, isTouched }) => {
        this.#strip.brush(from, to);
        if (isTouched) this.#address(from, to, isNewest);
      },
      loaded: (window) => this.#loaded(window),
      failed: (error) => this.#say(`The candles did not come: ${error.message}`),
      busy: (isBusy) => this.#parts.chart.classList.toggle("is-busy", isBusy),
    });
    addEventListener("keydown", (event) => {
      if (this.#key === null || event.target.closest?.("input") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "[") this.#parts.previous.click();
      if (event.key === "]") this.#parts.next.click();
    });
  }

  /** Show the series and the span that the address names. */
  async show(query, overview) {
    const key = query.get("series");
    const span = `${query.get("from") ?? ""} ${query.get("to") ?? ""}`;
    if (key === this.#key) {
      if (span !== this.#span && this.#summary) this.#open(query);
      return;
    }
    this.#key = key;
    this.#name();
    this.#events?.stop();
    this.#events = new EventsView(this.#parts.events, key);
    this.#strip.clear();
    this.#say("");
    await this.#enter(query, overview);
  }

  async #enter(query, overview) {
    const key = this.#key;
    this.#summary = null;
    this.#version = overview?.calendar ?? null;
    this.#stop?.abort();
    this.#stop = new AbortController();
    try {
      this.#take(await get("series/summary", { series: key }, this.#stop.signal));
    } catch (error) {
      if (isAborted(error)) return;
      // A series that was listed just now is known a little later: `update` asks again.
      this.#say(error.status === 404 ? "The store has no candle of this series yet." : `The series did not come: ${error.message}`);
      this.#parts.body.hidden = true;
      return;
    }
    this.#parts.body.hidden = false;
    this.#say("");
    this.#open(query);
    this.#lists(overview);
  }

  /** Look whether the calendar has changed, and fetch what may have changed with it. */
  async update(overview) {
    if (this.#key === null) return;
    if (!this.#summary) {
      if (overview.calendar !== this.#version) await this.#enter(parameters(), overview);
      return;
    }
    this.#events.update(overview.events);
    if (overview.calendar === this.#version) return;
    this.#version = overview.calendar;
    try {
      this.#take(await get("series/summary", { series: this.#key }, this.#stop.signal));
      this.#chart.refresh();
      this.#lists(overview);
    } catch {
      // The next version tries again.
    }
  }

  /** Take a candle of the stream. */
  add(candle) {
    if (candle.series !== this.#key || !this.#summary) return;
    this.#chart.add(candle);
    this.#price(candle.close, candle.open_time_ms);
  }

  /** Let the link to all series lead to the overview as it was. */
  backTo(address) {
    this.#parts.back.href = address;
  }

  leave() {
    this.#key = null;
    this.#span = "";
    this.#last = null;
    this.#stop?.abort();
    this.#events?.stop();
    this.#chart.close();
  }

  #build(box) {
    const parts = {
      name: el("h2", { class: "series-name", tabindex: -1 }),
      market: el("span", { class: "series-market" }),
      back: el("a", { class: "text-button back", href: "./", data: { view: "" } }, glyph("glyph-left"), "All series"),
      price: el("span", { class: "price" }),
      at: el("span", { class: "price-at" }),
      previous: el("a", { class: "icon-button", data: { view: "" }, "aria-keyshortcuts": "[" }, glyph("glyph-left")),
      next: el("a", { class: "icon-button", data: { view: "" }, "aria-keyshortcuts": "]" }, glyph("glyph-right")),
      figures: el("dl", { class: "figures" }),
      spans: el("div", { class: "segments", role: "group", "aria-label": "Span in view" }),
      step: el("span", { class: "step" }),
      links: el("span", { class: "links" }),
      legend: el("p", { class: "candle-legend", "aria-hidden": "true" }),
      chart: el("div", { class: "chart", tabindex: 0, role: "group" }),
      strip: el("div"),
      problem: el("p", { class: "empty", role: "status" }),
      gaps: el("section", { class: "panel", "aria-label": "Gaps" }),
      revisions: el("section", { class: "panel", "aria-label": "Revisions" }),
      files: el("section", { class: "panel", "aria-label": "Files" }),
      events: el("section", { class: "panel", "aria-label": "Events" }),
      body: el("div"),
    };
    this.#parts = parts;
    parts.body.append(
      parts.figures,
      el("section", { class: "chart-section", "aria-label": "Candles" },
        el("div", { class: "section-head" }, parts.spans, parts.step, parts.links),
        el("div", { class: "chart-room" }, parts.legend, parts.chart),
        parts.strip,
      ),
      el("div", { class: "columns" }, el("div", {}, parts.gaps, parts.revisions), el("div", {}, parts.files, parts.events)),
    );
    box.append(
      el("nav", { class: "crumbs", "aria-label": "Series" }, parts.back, el("span", { class: "gap" }), parts.previous, parts.next),
      el("header", { class: "series-head" }, parts.name, parts.market, el("span", { class: "gap" }), parts.price, parts.at),
      parts.problem,
      parts.body,
    );
  }

  #name() {
    const { tradeType, symbol, interval } = format.seriesParts(this.#key);
    const { name, market, price, at, step } = this.#parts;
    name.replaceChildren(symbol, " ", el("span", {}, interval));
    put(market, format.market(tradeType));
    put(price, "");
    put(at, "");
    put(step, "");
    put(document.getElementById("title"), `${symbol} ${interval}, ${format.market(tradeType)}`);
    this.#status.name(`${symbol} ${interval}`);
    this.#last = null;
  }

  #take(summary) {
    this.#summary = summary;
    this.#neighbour(this.#parts.previous, summary.previous, "Previous series");
    this.#neighbour(this.#parts.next, summary.next, "Next series");
    const { due, stored } = summary;
    const figures = [
      ["Complete", summary.percent === null ? format.NONE : `${format.percent(summary.percent)} %`],
      ["Stored", format.whole(stored), due === undefined ? "" : `of ${format.whole(due)}`],
      ["Refilled", format.whole(summary.refilled)],
      ["Pending", format.whole(summary.pending), "", "pending"],
      ["Absent", format.whole(summary.absent), "", "absent"],
      ...(summary.unaccounted ? [["Unaccounted", format.whole(summary.unaccounted), "", "unaccounted"]] : []),
      ["First due", bounds(summary).first ? format.day(bounds(summary).first) : format.NONE],
      ["Last due", bounds(summary).last ? format.moment(bounds(summary).last) : format.NONE],
    ];
    this.#parts.figures.replaceChildren(...figures.map(([name, value, small, key]) =>
      el("div", { class: key && summary[key] ? "is-marked" : null, data: key ? { key } : {} }, el("dt", {}, name), el("dd", {}, el("b", {}, value), small ? el("small", {}, small) : null)),
    ));
  }

  #neighbour(link, key, text) {
    link.classList.toggle("is-off", !key);
    if (!key) {
      link.removeAttribute("href");
      link.setAttribute("role", "link");
      link.setAttribute("aria-disabled", "true");
      link.setAttribute("aria-label", `${text}: none`);
      link.removeAttribute("title");
      return;
    }
    const { symbol, interval } = format.seriesParts(key);
    link.href = seriesAddress(key);
    link.removeAttribute("role");
    link.removeAttribute("aria-disabled");
    link.setAttribute("aria-label", `${text}: ${symbol} ${interval}`);
    link.title = `${text}: ${symbol} ${interval}`;
  }

  #open(query) {
    const from = Number(query.get("from")) || null;
    const to = Number(query.get("to")) || null;
    this.#span = `${query.get("from") ?? ""} ${query.get("to") ?? ""}`;
    const { first, last } = bounds(this.#summary);
    const { interval } = format.seriesParts(this.#key);
    const step = format.intervalMs(interval);
    const series = { key: this.#key, step, first, last };
    if (this.#chart.key === this.#key) this.#chart.show(from, to);
    else this.#chart.open(series, from, to);
    this.#spans(step, first, last, from, to);
  }

  #spans(step, first, last, from, to) {
    const fitting = SPANS.filter(([, span]) => span / step >= 12 && span < last - first);
    const all = [...fitting, ["All", null]];
    this.#parts.spans.replaceChildren(...all.map(([name, span]) => {
      const begin = span === null ? first : last - span;
      const isShown = to === null && from !== null && Math.abs(from - begin) < Math.max(step, (last - from) * 0.02);
      const target = span === null ? { from: first, to: null } : { from: begin, to: null };
      return el("button", { type: "button", "aria-pressed": String(isShown), on: { click: () => go(changed(target)) } }, name);
    }), el("button", { type: "button", "aria-pressed": String(from === null && to === null), on: { click: () => go(changed({ from: null, to: null })) } }, "Newest"));
  }

  #remember(from, to, isNewest) {
    if (this.#key === null) return;
    const query = changed({ from, to: isNewest ? null : to });
    this.#span = `${query.get("from") ?? ""} ${query.get("to") ?? ""}`;
    go(query, { replace: true, quiet: true });
    const { first, last } = bounds(this.#summary);
    this.#spans(format.intervalMs(format.seriesParts(this.#key).interval), first, last, from, isNewest ? null : to);
  }

  #loaded(window) {
    const { interval } = format.seriesParts(this.#key);
    put(this.#parts.step, window.isCoarse ? `One candle here stands for ${format.stepName(window.step)} of ${interval}` : "");
    const newest = window.bars.findLast((bar) => bar.open !== undefined);
    if (newest && (this.#last === null || newest.ms + window.step >= this.#last)) this.#price(newest.close, newest.ms + window.step);
    this.#legend(null, null);
    const query = { series: this.#key, from_ms: Math.floor(window.from), to_ms: Math.ceil(window.to) };
    this.#parts.links.replaceChildren("Candles in view: ", el("a", { href: address("candles", { ...query, format: "csv" }) }, "CSV"), " ", el("a", { href: address("candles", query) }, "JSON"));
    this.#parts.chart.setAttribute("aria-label", this.#spoken(window, newest));
    this.#say(window.bars.length ? "" : "No candle is stored in this span.");
  }

  #spoken(window, newest) {
    const stored = window.bars.filter((bar) => bar.open !== undefined);
    if (!stored.length) return "Candlestick chart without candles";
    const high = Math.max(...stored.map((bar) => bar.high));
    const low = Math.min(...stored.map((bar) => bar.low));
    return `Candlestick chart, ${format.range(window.first, window.last + window.step)}: low ${format.price(low)}, high ${format.price(high)}, last close ${format.price(newest.close)}. Arrow keys move, plus and minus zoom.`;
  }

  #price(close, ms) {
    this.#last = ms;
    put(this.#parts.price, format.price(close));
    put(this.#parts.at, `${format.clock(ms)} UTC`);
  }

  #legend(bar, gap, ms) {
    const { legend } = this.#parts;
    if (gap) {
      const { name, state } = GAP_STATES[gap.state] ?? { name: gap.state, state: 3 };
      const asked = gap.asked ? `, asked ${format.counted(gap.asked, "time")}` : "";
      const by = gap.filled_by ? ` from ${gap.filled_by}` : "";
      legend.replaceChildren(el("span", { class: "swatch", data: { state } }, `${name}${by}: ${format.counted(gap.candles, "candle")}, ${format.range(gap.from_ms, gap.to_ms)}; reason: ${gap.reason}${asked}`));
      return;
    }
    if (!bar) {
      put(legend, "");
      return;
    }
    const values = [["O", bar.open], ["H", bar.high], ["L", bar.low], ["C", bar.close]].map(([name, value]) => el("span", {}, el("i", {}, name), format.price(value)));
    legend.replaceChildren(el("span", {}, format.moment(ms)), ...values, el("span", {}, el("i", {}, "V"), format.short(bar.volume)));
  }

  #say(text) {
    put(this.#parts.problem, text);
    this.#parts.problem.hidden = !text;
  }

  async #lists(overview) {
    const key = this.#key;
    const { first, last } = bounds(this.#summary);
    const signal = this.#stop.signal;
    this.#strip.show(key, first, last);
    if (overview) this.#events.update(overview.events);
    const ask = (name, query) => get(name, { series: key, ...query }, signal);
    const [gaps, revisions, files] = await Promise.allSettled([ask("gaps", { limit: MOST_GAPS }), ask("revisions", { limit: 100 }), ask("files", {})]);
    if (key !== this.#key) return;
    this.#list(this.#parts.gaps, "Gaps", "gaps", gaps, (answer) => answer.gaps, (rows) => gapTable(rows), "No gap: every due candle is stored as the stream brought it.");
    this.#list(this.#parts.revisions, "Revisions", "revisions", revisions, (answer) => answer.revisions, revisionTable, "No revision: no value came twice with a difference.");
    this.#list(this.#parts.files, "Files", "files", files, (answer) => answer.files, fileTable, "No file yet: the candles are in the journal.");
  }

  #list(box, title, name, result, rowsOf, tableOf, nothing) {
    if (result.status === "rejected") return;
    const rows = rowsOf(result.value);
    const query = { series: this.#key };
    const count = rows.length ? `${format.whole(rows.length)}${result.value.truncated ? " newest" : ""}` : "";
    const head = el("div", { class: "section-head" }, el("h2", {}, title, count ? el("span", { class: "count" }, count) : null), el("span", { class: "links" }, el("a", { href: address(name, { ...query, format: "csv" }) }, "CSV"), " ", el("a", { href: address(name, query) }, "JSON")));
    const top = box.querySelector(".table-box")?.scrollTop ?? 0;
    box.replaceChildren(head, rows.length ? tableOf(rows) : el("p", { class: "empty" }, nothing));
    const table = box.querySelector(".table-box");
    if (table) table.scrollTop = top;
  }
}


/** Return the time from the first to the last candle, in milliseconds. */
function bounds(summary) {
  const first = Math.min(summary.first_ms ?? Infinity, summary.candles_from_ms ?? Infinity);
  const last = Math.max(summary.last_ms ?? 0, summary.candles_to_ms ?? 0);
  return { first: first === Infinity ? 0 : first, last };
}
