// The log of events: gaps found and healed, reconnects, listings, revisions.

import { address, get, isAborted } from "./api.js";
import { el, put } from "./dom.js";
import * as format from "./format.js";
import { seriesAddress } from "./router.js";

const PAGE = 100;
const MOST = 1000;
const KINDS = {
  gap_found: "Gap",
  gap_filled: "Filled",
  gap_closed: "Closed",
  disconnected: "Lost",
  connected: "Connected",
  listed: "Listed",
  delisted: "Delisted",
  status: "Status",
  revised: "Revised",
  verdict: "Verdict",
  started: "Started",
};

export class EventsView {
  #box;
  #series;
  #events = [];
  #version = null;
  #stop = null;
  #isEnd = false;
  #parts = {};

  /** Show the events of all, or of one series, in a box. */
  constructor(box, series = null) {
    this.#box = box;
    this.#series = series;
    const list = el("ol", { class: "events", tabindex: 0, "aria-label": "Events, newest first" });
    const older = el(
      "button",
      { type: "button", class: "text-button", on: { click: () => this.#older() } },
      "Older events",
    );
    const empty = el("p", { class: "empty", hidden: true }, "Nothing has happened yet.");
    this.#parts = { list, older, empty };
    const id = series ? null : "events-title";
    box.replaceChildren(
      el(
        "div",
        { class: "section-head" },
        el("h2", { id }, "Events"),
        el(
          "span",
          { class: "links" },
          el("a", { href: address("events", { series, limit: MOST, format: "csv" }) }, "CSV"),
          " ",
          el("a", { href: address("events", { series, limit: MOST }) }, "JSON"),
        ),
      ),
      list,
      empty,
    );
  }

  /** Fetch the newest events if there are new ones. */
  async update(version) {
    if (version === this.#version) return;
    this.#version = version;
    await this.#fetch({ limit: PAGE }, (fresh, isMore) => {
      const oldest = fresh.at(-1)?.time_ms ?? 0;
      const known = new Set(fresh.map((event) => event.id));
      const kept = this.#events.filter((event) => event.time_ms <= oldest && !known.has(event.id));
      this.#events = [...fresh, ...kept].slice(0, MOST);
      if (!kept.length) this.#isEnd = !isMore;
    });
  }

  stop() {
    this.#stop?.abort();
  }

  async #older() {
    // Other events of the same moment may not have come yet.
    const before = this.#events.at(-1).time_ms + 1;
    await this.#fetch({ limit: PAGE, before_ms: before }, (more, isMore) => {
      const known = new Set(this.#events.map((event) => event.id));
      const unseen = more.filter((event) => !known.has(event.id));
      this.#isEnd = unseen.length === 0 || !isMore;
      this.#events = [...this.#events, ...unseen].slice(0, MOST);
    });
  }

  async #fetch(query, take) {
    this.#stop?.abort();
    const stop = new AbortController();
    this.#stop = stop;
    try {
      const { events, truncated } = await get(
        "events",
        { ...query, series: this.#series },
        stop.signal,
      );
      take(events, truncated ?? events.length === query.limit);
      this.#show();
    } catch (error) {
      if (!isAborted(error)) this.#version = null; // Ask again at the next overview.
    }
  }

  #show() {
    const { list, older, empty } = this.#parts;
    const items = [];
    let day = null;
    for (const event of this.#events) {
      const of = format.day(event.time_ms);
      if (of !== day) items.push(el("li", { class: "event-day" }, format.weekday(event.time_ms)));
      day = of;
      items.push(this.#item(event));
    }
    const top = list.scrollTop;
    list.replaceChildren(...items);
    if (this.#events.length >= PAGE && !this.#isEnd && this.#events.length < MOST)
      list.append(el("li", { class: "event-more" }, older));
    list.scrollTop = top;
    list.hidden = this.#events.length === 0;
    empty.hidden = this.#events.length > 0;
    this.#box.dataset.count = String(this.#events.length);
  }

  #item(event) {
    const time = el(
      "time",
      { datetime: new Date(event.time_ms).toISOString() },
      format.clock(event.time_ms),
    );
    const kind = el("span", { class: "kind" });
    put(kind, KINDS[event.kind] ?? event.kind);
    return el(
      "li",
      { class: "event", data: { verdict: event.verdict } },
      time,
      kind,
      el("span", { class: "what" }, ...this.#subject(event), this.#text(event)),
    );
  }

  #subject(event) {
    if (this.#series) return [];
    if (!event.series)
      return event.trade_type && !event.text.includes(event.trade_type, 1)
        ? [el("b", {}, format.market(event.trade_type)), " "]
        : [];
    const { tradeType, symbol, interval } = format.seriesParts(event.series);
    const link = el(
      "a",
      { href: seriesAddress(event.series), data: { view: "" }, title: format.market(tradeType) },
      `${symbol} ${interval}`,
    );
    return [link, " "];
  }

  /** Return the text without its subject, which stands before it as a link. */
  #text({ text, series, trade_type: tradeType }) {
    if (series) {
      const { symbol, interval } = format.seriesParts(series);
      for (const subject of [
        `${tradeType} ${symbol}-${interval}: `,
        `${tradeType} ${symbol}-${interval} `,
      ]) {
        if (text.startsWith(subject)) return text.slice(subject.length);
      }
    }
    return isOf(text, tradeType) ? text.slice(tradeType.length).replace(/^:? /, "") : text;
  }
}

function isOf(text, tradeType) {
  return (
    Boolean(tradeType) && (text.startsWith(`${tradeType}: `) || text.startsWith(`${tradeType} `))
  );
}
