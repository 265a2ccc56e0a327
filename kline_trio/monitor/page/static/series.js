// The page of one series: chart, life, gaps, revisions, files and events.

import { address, get, isAborted } from "./api.js";
import { debounce, el, put } from "./dom.js";
import { EventsView } from "./events.js";
import * as format from "./format.js";
import { GAP_STATES } from "./gaps.js";
import { changed, go, parameters } from "./router.js";
import { SeriesChart } from "./series-chart.js";
import { bounds, buildParts, showName, showSummary } from "./series-head.js";
import { showLists } from "./series-lists.js";
import { SeriesStrip } from "./series-strip.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const SPANS = [
  ["1 h", HOUR],
  ["6 h", 6 * HOUR],
  ["1 d", DAY],
  ["1 w", 7 * DAY],
  ["1 M", 30 * DAY],
  ["3 M", 91 * DAY],
  ["1 y", 365 * DAY],
];

export class SeriesView {
  #status;
  #parts;
  #chart;
  #strip;
  #events = null;
  #key = null;
  #step = 0; // Milliseconds of a candle.
  #span = ""; // The span of the address that is shown.
  #summary = null;
  #counts = ""; // Of the summary whose lists are shown.
  #version = null;
  #stop = null;
  #priced = 0; // The close whose price is shown.
  #now = null;
  #address = debounce((from, to, isNewest) => this.#remember(from, to, isNewest), 350);

  constructor(box, status) {
    this.#status = status;
    this.#parts = buildParts(box);
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
      const isOther = event.ctrlKey || event.metaKey || event.altKey;
      if (this.#key === null || isOther || event.target.closest?.("input")) return;
      if (event.key === "[") this.#parts.previous.click();
      if (event.key === "]") this.#parts.next.click();
    });
  }

  /** Show the series and the span that the address names. */
  async show(query, overview) {
    const key = query.get("series");
    if (key === this.#key) {
      if (spanOf(query) !== this.#span && this.#summary) this.#open(query);
      return;
    }
    const { symbol, interval } = format.seriesParts(key);
    this.#key = key;
    this.#step = format.intervalMs(interval);
    this.#priced = 0;
    this.#now = overview?.now_ms ?? null;
    showName(this.#parts, key);
    this.#status.name(`${symbol} ${interval}`);
    this.#events?.stop();
    this.#events = new EventsView(this.#parts.events, key);
    this.#strip.clear();
    this.#say("");
    await this.#enter(query, overview);
  }

  async #enter(query, overview) {
    this.#summary = null;
    this.#version = overview?.calendar ?? null;
    this.#stop?.abort();
    this.#stop = new AbortController();
    try {
      this.#take(await get("series/summary", { series: this.#key }, this.#stop.signal));
    } catch (error) {
      if (isAborted(error)) return;
      // A series that was listed just now is known a little later: `update` asks again.
      const isNew = error.status === 404;
      this.#say(
        isNew
          ? "The store has no candle of this series yet."
          : `The series did not come: ${error.message}`,
      );
      this.#parts.body.hidden = true;
      return;
    }
    this.#parts.body.hidden = false;
    this.#say("");
    this.#open(query);
    this.#fetchRest(overview);
  }

  /** Look whether the calendar has changed, and fetch what may have changed with it. */
  async update(overview) {
    if (this.#key === null) return;
    this.#now = overview.now_ms;
    const isNew = overview.calendar !== this.#version;
    if (!this.#summary) {
      if (isNew) await this.#enter(parameters(), overview);
      return;
    }
    this.#events.update(overview.events);
    if (!isNew) return;
    this.#version = overview.calendar;
    const counts = this.#counts;
    try {
      this.#take(await get("series/summary", { series: this.#key }, this.#stop.signal));
    } catch {
      return; // The next version tries again.
    }
    // New candles come by the stream while a recorder runs here; all else is fetched again.
    this.#chart.refresh(bounds(this.#summary).last, counts !== this.#counts || !overview.is_live);
    if (counts !== this.#counts || !overview.is_live) this.#fetchRest(overview);
  }

  /** Take a candle of the stream. */
  add(candle) {
    if (candle.series !== this.#key || !this.#summary) return;
    this.#chart.add(candle);
    this.#price(candle.close, candle.open_time_ms + this.#step);
  }

  /** Let the link to all series lead to the overview as it was. */
  backTo(address) {
    this.#parts.back.href = address;
  }

  leave() {
    this.#key = null;
    this.#span = "";
    this.#summary = null;
    this.#stop?.abort();
    this.#events?.stop();
    this.#chart.close();
  }

  #take(summary) {
    this.#summary = summary;
    const { pending, absent, refilled, unaccounted, files } = summary;
    this.#counts = [pending, absent, refilled, unaccounted, files].join(" ");
    showSummary(this.#parts, summary);
  }

  /** Fetch what stands beside the chart. */
  async #fetchRest(overview) {
    const { signal } = this.#stop;
    const { first, last } = bounds(this.#summary);
    this.#strip.show(this.#key, first, last);
    if (overview) this.#events.update(overview.events);
    showLists(this.#parts, this.#key, signal);
    try {
      const newest = await get("candles", { series: this.#key, points: 1 }, signal);
      const close = newest.close.at(-1);
      if (close !== undefined) this.#price(close, newest.open_time_ms.at(-1) + this.#step);
    } catch {
      // The stream will bring a price.
    }
  }

  #open(query) {
    const from = Number(query.get("from")) || null;
    const to = Number(query.get("to")) || null;
    this.#span = spanOf(query);
    const { first, last } = bounds(this.#summary);
    if (this.#chart.key === this.#key) this.#chart.show(from, to);
    else this.#chart.open({ key: this.#key, step: this.#step, first, last }, from, to);
    this.#showSpans(from, to);
  }

  #showSpans(from, to) {
    const { first, last } = bounds(this.#summary);
    const step = this.#step;
    const fitting = SPANS.filter(([, span]) => span / step >= 12 && span < last - first);
    const choices = [
      ...fitting.map(([name, span]) => [name, last - span]),
      ["All", first],
      ["Now", null],
    ];
    const isAt = (begin) => {
      if (to !== null) return false;
      if (begin === null || from === null) return begin === from;
      return Math.abs(from - begin) < Math.max(step, (last - from) * 0.02);
    };
    const buttons = choices.map(([name, begin]) => {
      const click = () => go(changed({ from: begin, to: null }));
      return el(
        "button",
        { type: "button", "aria-pressed": String(isAt(begin)), on: { click } },
        name,
      );
    });
    this.#parts.spans.replaceChildren(...buttons);
  }

  #remember(from, to, isNewest) {
    if (this.#key === null || !this.#summary) return;
    const end = isNewest ? null : to;
    const query = changed({ from, to: end });
    this.#span = spanOf(query);
    go(query, { replace: true, quiet: true });
    this.#showSpans(from, end);
  }

  #loaded(window) {
    const { interval } = format.seriesParts(this.#key);
    const step = format.stepName(window.step);
    put(
      this.#parts.step,
      window.isCoarse ? `One candle here stands for ${step} of ${interval}` : "",
    );
    this.#legend(null, null);
    const query = {
      series: this.#key,
      from_ms: Math.floor(window.from),
      to_ms: Math.ceil(window.to),
      points: 5000,
    };
    this.#parts.links.replaceChildren(
      "Candles in view: ",
      el("a", { href: address("candles", { ...query, format: "csv" }) }, "CSV"),
      " ",
      el("a", { href: address("candles", query) }, "JSON"),
    );
    this.#parts.chart.setAttribute("aria-label", chartText(window));
    this.#say(window.bars.length ? "" : "No candle is stored in this span.");
  }

  #price(close, ms) {
    if (ms < this.#priced) return; // A refilled candle of the past.
    this.#priced = ms;
    const isRecent = this.#now !== null && this.#now - ms < DAY / 2;
    put(this.#parts.price, format.price(close));
    put(this.#parts.at, `${isRecent ? format.clock(ms) : format.moment(ms)} UTC`);
  }

  #legend(bar, gap, ms) {
    const { legend } = this.#parts;
    if (gap) legend.replaceChildren(gapText(gap));
    else if (bar) legend.replaceChildren(el("span", {}, format.moment(ms)), ...barValues(bar));
    else put(legend, "");
  }

  #say(text) {
    put(this.#parts.problem, text);
    this.#parts.problem.hidden = !text;
  }
}

function spanOf(query) {
  return `${query.get("from") ?? ""} ${query.get("to") ?? ""}`;
}

function barValues(bar) {
  const values = [
    ["O", format.price(bar.open)],
    ["H", format.price(bar.high)],
    ["L", format.price(bar.low)],
    ["C", format.price(bar.close)],
    ["V", format.short(bar.volume)],
  ];
  return values.map(([name, value]) => el("span", {}, el("i", {}, name), value));
}

function gapText(gap) {
  const { name, state } = GAP_STATES[gap.state] ?? { name: gap.state, state: 3 };
  const by = gap.filled_by ? ` from ${gap.filled_by}` : "";
  const what = `${format.counted(gap.candles, "candle")}, ${format.range(gap.from_ms, gap.to_ms)}`;
  const asked = gap.asked ? `, asked ${format.counted(gap.asked, "time")}` : "";
  const text = `${name}${by}: ${what}; reason: ${gap.reason}${asked}`;
  return el("span", { class: "swatch", data: { state } }, text);
}

/** Return what the chart shows, in words. */
function chartText(window) {
  const stored = window.bars.filter((bar) => bar.open !== undefined);
  if (!stored.length) return "Candlestick chart without candles";
  const high = format.price(Math.max(...stored.map((bar) => bar.high)));
  const low = format.price(Math.min(...stored.map((bar) => bar.low)));
  const close = format.price(stored.at(-1).close);
  const span = format.range(window.first, window.last + window.step);
  const values = `low ${low}, high ${high}, last close ${close}`;
  return `Candlestick chart, ${span}: ${values}. Arrow keys move, plus and minus zoom.`;
}
