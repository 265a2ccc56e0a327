// The completeness calendar: which window of which rows, by buttons, search and address.

import { drawAxis } from "./calendar-axis.js";
import { forgetColours, STATES } from "./calendar-cells.js";
import { Grid } from "./calendar-grid.js";
import { Rows } from "./calendar-rows.js";
import { add, finer, floor, windowName, windowOf, ZOOMS } from "./calendar-time.js";
import { byId, debounce, el, glyph, put } from "./dom.js";
import { address, get } from "./api.js";
import * as format from "./format.js";
import { changed, go, parameters, seriesAddress } from "./router.js";
import { onTheme } from "./theme.js";

const LEAST_PITCH = { hour: 11, day: 11, week: 11, month: 24 };
const LEAST_PITCH_NARROW = { hour: 9, day: 9, week: 9, month: 20 };
const MOST_ROWS = 200; // Of an answer.
const LEGEND = [1, 2, 5, 4, 3, 0];

export class CalendarView {
  #grid;
  #rows;
  #parts = {};
  #now = null;
  #version = null;
  #window = { from: 0, to: 0, cells: 0 };
  #view = null; // What the address says.
  #asked = "";
  #isLearning = false;
  #isYoung = false; // The store has only few days: hours say more.

  constructor() {
    this.#rows = new Rows(
      () => this.#came(),
      (error) => this.#failed(error),
    );
    this.#grid = new Grid(this.#rows, {
      open: (row, cell) => this.#open(row, cell),
      toggle: (row) => this.#toggle(row),
      shift: (cells) => this.#shift(cells),
      shown: () => this.#corner(),
      hovered: (cell) => this.#hovered(cell),
    });
    this.#build();
    onTheme(() => {
      forgetColours();
      this.#grid.redraw();
    });
    new ResizeObserver(() => this.#ask()).observe(this.#parts.axis);
  }

  /** Show what the address says. */
  show(query) {
    const isChosen = query.get("zoom") in ZOOMS;
    const zoom = isChosen ? query.get("zoom") : this.#isYoung ? "hour" : "day";
    const end = Number(query.get("end")) || null;
    if (this.#view && this.#view.q !== (query.get("q") ?? "")) this.#grid.scrollToTop();
    this.#view = {
      zoom,
      isChosen,
      end,
      q: query.get("q") ?? "",
      open: query.getAll("open"),
      closed: query.getAll("closed"),
    };
    for (const button of this.#parts.zooms)
      button.setAttribute("aria-pressed", String(button.dataset.zoom === zoom));
    if (this.#parts.search.value.trim() !== this.#view.q) this.#parts.search.value = this.#view.q;
    this.#ask();
  }

  /** Learn the time of the exchange and the version of the calendar. */
  update(overview) {
    const isNew = this.#version !== overview.calendar;
    this.#version = overview.calendar;
    if (overview.now_ms !== null) this.#now = overview.now_ms;
    else if (isNew || !this.#isLearning) this.#learnNow();
    this.#ask({ isStale: isNew });
  }

  /** Nothing tells the exchange's time: the calendar ends with the newest due candle, as the server does by default. */
  async #learnNow() {
    this.#isLearning = true;
    try {
      const { starts_ms: starts } = await get("calendar", { limit: 1 });
      const newest = starts.at(-1) ?? 0;
      if (newest <= 0) return; // Nothing is due yet.
      this.#now = newest + 1;
      this.#ask();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Fetch again what is in view. */
  refresh() {
    this.#ask({ isStale: true });
  }

  #build() {
    const zooms = Object.entries(ZOOMS).map(([zoom, { name }]) =>
      el(
        "button",
        {
          type: "button",
          data: { zoom },
          "aria-pressed": "false",
          on: { click: () => this.#zoom(zoom) },
        },
        name,
      ),
    );
    const search = el("input", {
      type: "search",
      placeholder: "Search series",
      "aria-label": "Search series: words of market, symbol and interval",
      autocomplete: "off",
      spellcheck: "false",
      enterkeyhint: "search",
      "aria-keyshortcuts": "/",
    });
    const type = debounce(() => go(changed({ q: search.value.trim() }), { replace: true }), 180);
    search.addEventListener("input", type);
    search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "Enter") {
        event.preventDefault();
        this.#grid.element.focus();
      }
    });
    addEventListener("keydown", (event) => {
      const isTyping = event.target.closest?.("input, select, textarea");
      if (
        event.key !== "/" ||
        isTyping ||
        event.ctrlKey ||
        event.metaKey ||
        byId("overview").hidden
      )
        return;
      event.preventDefault();
      search.focus();
    });
    const parts = {
      zooms,
      search,
      csv: el("a", {}, "CSV"),
      json: el("a", {}, "JSON"),
      back: el(
        "button",
        {
          type: "button",
          class: "icon-button",
          "aria-label": "Earlier",
          on: { click: () => this.#shift(-this.#stride()) },
        },
        glyph("glyph-left"),
      ),
      forth: el(
        "button",
        {
          type: "button",
          class: "icon-button",
          "aria-label": "Later",
          on: { click: () => this.#shift(this.#stride()) },
        },
        glyph("glyph-right"),
      ),
      now: el(
        "button",
        { type: "button", class: "text-button", on: { click: () => go(changed({ end: null })) } },
        "Now",
      ),
      span: el("span", { class: "span" }),
      axis: el("div", { class: "axis", "aria-hidden": "true" }),
      column: el("div", { class: "axis-column" }),
      corner: el("div", { class: "corner" }),
      empty: el("p", { class: "empty is-first" }, "Reading the calendar…"),
    };
    parts.ticks = el("div", { class: "ticks" });
    parts.axis.append(parts.ticks, parts.column);
    this.#parts = parts;
    const legend = el(
      "ul",
      { class: "legend", "aria-label": "Legend" },
      ...LEGEND.map((state) => {
        const item = el("li", { data: { state } }, STATES[state].name);
        item.title = `${STATES[state].name}: ${STATES[state].text}`;
        return item;
      }),
    );
    byId("calendar").append(
      el(
        "div",
        { class: "section-head" },
        el("h2", { id: "calendar-title" }, "Completeness"),
        el(
          "div",
          { class: "segments", role: "group", "aria-label": "What a cell stands for" },
          ...zooms,
        ),
        el(
          "div",
          { class: "pager", role: "group", "aria-label": "Time in view" },
          parts.back,
          parts.span,
          parts.forth,
          parts.now,
        ),
        el(
          "label",
          { class: "search" },
          glyph("glyph-search"),
          search,
          el("kbd", { "aria-hidden": "true" }, "/"),
        ),
      ),
      el(
        "div",
        { class: "grid-head" },
        parts.corner,
        parts.axis,
        el("div", { class: "percent-head" }, "%"),
      ),
      this.#grid.element,
      parts.empty,
      el(
        "div",
        { class: "section-foot" },
        legend,
        el(
          "span",
          { class: "links" },
          "Cells in view: ",
          parts.csv,
          " ",
          parts.json,
          " · All series: ",
          el("a", { href: address("series", { limit: 5000, format: "csv" }) }, "CSV"),
          " ",
          el("a", { href: address("series", { limit: 5000 }) }, "JSON"),
        ),
      ),
    );
  }

  #fit() {
    const width = this.#parts.axis.clientWidth;
    if (!width) return null;
    const { zoom } = this.#view;
    const least = (width < 480 ? LEAST_PITCH_NARROW : LEAST_PITCH)[zoom];
    const cells = Math.max(4, Math.min(ZOOMS[zoom].most, Math.floor(width / least)));
    return { cells, pitch: width / cells };
  }

  #ask({ isStale = false } = {}) {
    if (this.#now === null || !this.#view) return;
    const fit = this.#fit();
    if (!fit) return;
    const { zoom, end, q, open, closed } = this.#view;
    const { from, to } = windowOf(zoom, end ?? this.#now, fit.cells);
    this.#window = { from, to, cells: fit.cells };
    const query = { zoom, from_ms: Math.max(0, from), to_ms: to, q, open, closed };
    const text = JSON.stringify(query);
    const isSame = text === this.#asked;
    if (this.#grid.pitch !== fit.pitch) {
      this.#grid.pitch = fit.pitch;
      this.#grid.redraw();
      if (isSame) this.#axis();
    }
    put(this.#parts.span, windowName(zoom, from, to));
    this.#parts.now.disabled = end === null;
    this.#parts.forth.disabled = end === null;
    if (isSame && !isStale) return;
    this.#asked = text;
    const whole = { ...query, limit: MOST_ROWS };
    this.#parts.csv.href = address("calendar", { ...whole, format: "csv" });
    this.#parts.json.href = address("calendar", whole);
    this.#rows.ask(query, { keep: true });
    this.#rows.need(...this.#inView());
  }

  #inView() {
    const { scrollTop, clientHeight } = this.#grid.element;
    const first = Math.max(0, Math.floor(scrollTop / this.#grid.rowHeight));
    return [first, first + Math.ceil((clientHeight || 500) / this.#grid.rowHeight)];
  }

  #came() {
    if (this.#turnsOutYoung()) return;
    const { zoom, q } = this.#view;
    this.#grid.zoom = zoom;
    this.#axis();
    this.#parts.empty.classList.remove("is-first");
    this.#parts.empty.hidden = this.#rows.total > 0;
    put(this.#parts.empty, q ? `No series matches “${q}”.` : "Nothing is stored yet.");
    this.#grid.element.hidden = this.#rows.total === 0;
    this.#grid.schedule();
  }

  /** If no zoom was chosen and all days but the last few are empty, show hours. */
  #turnsOutYoung() {
    const { isChosen, zoom, end } = this.#view;
    if (isChosen || this.#isYoung || zoom !== "day" || end !== null || !this.#rows.total)
      return false;
    let isEmpty = true;
    for (let number = 0; number < Math.min(this.#rows.total, 50); number += 1) {
      const runs = this.#rows.row(number)?.row.runs;
      if (!runs) continue;
      if (runs[0][0] !== 0 || runs[0][1] < this.#window.cells - 3) return false;
      isEmpty &&= runs[0][1] >= this.#window.cells;
    }
    if (isEmpty) return false;
    this.#isYoung = true;
    this.show(parameters());
    return true;
  }

  #axis() {
    drawAxis(this.#parts.ticks, this.#view.zoom, this.#rows.starts, this.#grid.pitch);
  }

  #failed(error) {
    if (this.#rows.total) return; // What is in view stays; the header says that the recorder is gone.
    this.#parts.empty.hidden = false;
    put(this.#parts.empty, `The calendar did not come: ${error.message}`);
  }

  #corner() {
    const top = this.#grid.topRow;
    const key = top && top.depth > 0 ? format.market((top.series ?? top.key).split("/")[0]) : "";
    put(this.#parts.corner, key);
  }

  #hovered(cell) {
    const { column } = this.#parts;
    column.hidden = cell === null;
    if (cell === null) return;
    column.style.left = `${cell * this.#grid.pitch}px`;
    column.style.width = `${this.#grid.pitch}px`;
  }

  #zoom(zoom) {
    // The end of the window stays where it is.
    go(changed({ zoom }));
  }

  #stride() {
    return Math.max(1, Math.floor(this.#window.cells * 0.8));
  }

  #shift(cells) {
    const { zoom } = this.#view;
    const next = add(zoom, this.#window.to, cells);
    const latest = add(zoom, floor(zoom, this.#now), 1);
    go(changed({ end: next >= latest ? null : next }), { replace: Math.abs(cells) === 1 });
  }

  #toggle(row) {
    // While there is a search, symbols are open unless they were closed, as markets are.
    const { q, open, closed } = this.#view;
    const isUsuallyOpen = row.kind === "market" || q.trim() !== "";
    const [name, list] = isUsuallyOpen ? ["closed", closed] : ["open", open];
    const next = list.includes(row.key)
      ? list.filter((key) => key !== row.key)
      : [...list, row.key];
    go(changed({ [name]: next }), { replace: true });
  }

  #open(row, cell) {
    if (cell < 0) {
      if (row.series) go(new URL(seriesAddress(row.series), location.href).searchParams);
      return;
    }
    const from = this.#rows.starts[cell];
    const to = this.#rows.starts[cell + 1] ?? this.#rows.end;
    if (row.series) go(new URL(seriesAddress(row.series, from, to), location.href).searchParams);
    else go(changed({ day: from, until: to, of: row.key }));
  }
}

/** Return the address of the calendar at a cell, one zoom finer; null if there is none. */
export function finerAddress(from, to) {
  const next = finer(
    to - from > 8 * 86_400_000
      ? "month"
      : to - from > 86_400_000
        ? "week"
        : to - from > 3_600_000
          ? "day"
          : "hour",
  );
  return next ? changed({ zoom: next, end: to, day: null, until: null, of: null }) : null;
}
