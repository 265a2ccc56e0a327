// The rows of the calendar that are at hand: pages of an answer, fetched when they come into view.

import { get, isAborted } from "./api.js";

const PAGE = 50;
const MOST_PAGES = 12; // More are forgotten: an open page must not grow.

export class Rows {
  total = 0;
  starts = [];
  end = 0;
  #pages = new Map(); // first row -> {rows, reasons, isStale}
  #asked = new Map(); // first row -> AbortController
  #query = null;
  #changed;
  #failed;

  /** `changed` runs after rows came, `failed` with an error. */
  constructor(changed, failed) {
    this.#changed = changed;
    this.#failed = failed;
  }

  /** Ask another question. Old rows stay in view until new ones come, if they are only `stale`. */
  ask(query, { keep = false } = {}) {
    for (const asked of this.#asked.values()) asked.abort();
    this.#asked.clear();
    this.#query = query;
    if (keep) for (const page of this.#pages.values()) page.isStale = true;
    else this.#pages.clear();
  }

  /** Return a row with its reasons, or null if it has not come. */
  row(number) {
    const page = this.#pages.get(number - (number % PAGE));
    const row = page?.rows[number % PAGE];
    return row ? { row, reasons: page.reasons } : null;
  }

  /** Return the number of the first row at hand with a key, or -1. */
  find(key) {
    for (const [first, page] of this.#pages) {
      const index = page.rows.findIndex((row) => row.key === key);
      if (index >= 0) return first + index;
    }
    return -1;
  }

  /** Fetch what these rows need. */
  need(first, last) {
    if (!this.#query) return;
    for (let page = first - (first % PAGE); page <= last; page += PAGE) {
      const held = this.#pages.get(page);
      if ((!held || held.isStale) && !this.#asked.has(page)) this.#fetch(page);
    }
  }

  async #fetch(first) {
    const stop = new AbortController();
    const query = this.#query;
    this.#asked.set(first, stop);
    try {
      const answer = await get("calendar", { ...query, offset: first, limit: PAGE }, stop.signal);
      if (query !== this.#query) return;
      this.total = answer.total_rows;
      this.starts = answer.starts_ms;
      this.end = answer.end_ms;
      this.#pages.delete(first);
      this.#pages.set(first, { rows: answer.rows, reasons: answer.reasons, isStale: false });
      while (this.#pages.size > MOST_PAGES) this.#pages.delete(this.#pages.keys().next().value);
      this.#changed();
    } catch (error) {
      if (!isAborted(error)) this.#failed(error);
    } finally {
      if (this.#asked.get(first) === stop) this.#asked.delete(first);
    }
  }
}
