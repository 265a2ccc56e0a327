// The sentence that says whether all is well, its reasons, and the totals.

import { byId, el, glyph, put } from "./dom.js";
import * as format from "./format.js";

const ICONS = {
  ok: "icon.svg",
  degraded: "icon-degraded.svg",
  bad: "icon-bad.svg",
  stopped: "icon-gone.svg",
  gone: "icon-gone.svg",
};
const SIGNS = { ok: "", degraded: "⚠ ", bad: "✕ ", stopped: "⏸ ", gone: "… " };
const FEW_REASONS = 4;
const FIGURES = [
  "complete",
  "series",
  "stored",
  "refilled",
  "pending",
  "absent",
  "unaccounted",
  "lag",
  "disk",
  "uptime",
];

export class StatusView {
  #overview = null;
  #received = 0;
  #goneSince = null;
  #spoken = "";
  #reasons = "";
  #figures = new Map();
  #name = "";

  constructor() {
    setInterval(() => this.#tick(), 1000);
  }

  /** Show the newest overview. */
  update(overview) {
    this.#overview = overview;
    this.#received = performance.now();
    this.#goneSince = null;
    this.#show();
  }

  /** Say that the server does not answer. */
  gone() {
    this.#goneSince ??= Date.now();
    this.#show();
  }

  /** Name the view for the window's title. */
  name(text) {
    this.#name = text;
    this.#title();
  }

  #verdict() {
    return this.#goneSince === null ? (this.#overview?.verdict ?? "gone") : "gone";
  }

  #show() {
    const verdict = this.#verdict();
    document.body.dataset.verdict = verdict;
    document.body.classList.toggle("is-gone", this.#goneSince !== null);
    byId("mark").setAttribute("href", `#mark-${verdict}`);
    const icon = document.querySelector("link[rel=icon]");
    if (icon.getAttribute("href") !== ICONS[verdict]) icon.setAttribute("href", ICONS[verdict]);
    this.#title();
    this.#tick();
    this.#pulse();
    const overview = this.#overview;
    if (!overview || this.#goneSince !== null) return;
    this.#say(overview.sentence);
    put(byId("store"), overview.store ?? "");
    byId("simulated").hidden = !overview.is_simulated;
    this.#showReasons(
      (overview.reasons ?? []).filter((reason) => !overview.sentence.includes(reason.text)),
    );
    this.#showFigures(overview);
    this.#speak(`${verdict}: ${overview.sentence}`, verdict);
    this.#foot(overview);
  }

  /** Set the sentence. A number stays with its unit where the line breaks. */
  #say(text) {
    const sentence = byId("sentence");
    if (sentence.textContent === text) return;
    const isLong = text.length > 130;
    sentence.classList.toggle("is-long", isLong);
    // Of a long text the first sentence leads.
    const cut = isLong ? text.search(/(?<=\.) (?=[\dA-Z])/) : -1;
    const [lead, rest] = cut < 0 ? [text, ""] : [text.slice(0, cut), text.slice(cut)];
    sentence.replaceChildren(
      ...unbroken(lead),
      ...(rest ? [el("span", { class: "rest" }, ...unbroken(rest))] : []),
    );
  }

  #title() {
    const verdict = this.#verdict();
    const sign = SIGNS[verdict] ?? "";
    const name =
      verdict === "gone" && this.#goneSince !== null
        ? "No answer"
        : this.#name || (this.#overview ? this.#overview.sentence : "");
    const text = `${sign}${name ? `${name} – ` : ""}kline_trio`;
    if (document.title !== text) document.title = text;
  }

  /** Speak only when the verdict changes: a sentence with a time would never fall silent. */
  #speak(text, verdict) {
    if (this.#spoken === verdict) return;
    this.#spoken = verdict;
    put(byId("spoken"), text);
  }

  #pulse() {
    const isGone = this.#goneSince !== null;
    const pulse = byId("pulse");
    const text = isGone ? "Reconnecting" : this.#overview?.is_live ? "Live" : "Stored";
    put(byId("pulse-text"), text);
    if (isGone || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    pulse.firstElementChild.getAnimations().forEach((one) => one.cancel());
    pulse.firstElementChild.animate([{ transform: "scale(1.7)" }, { transform: "scale(1)" }], {
      duration: 600,
      easing: "ease-out",
    });
  }

  #tick() {
    const gone = byId("gone");
    if (this.#goneSince !== null) {
      const seconds = Math.round((Date.now() - this.#goneSince) / 1000);
      const who = this.#overview?.is_live === false ? "server" : "recorder";
      const since = this.#overview?.now_ms
        ? ` The page shows the state of ${format.clock(this.#now(0))} UTC`
        : " The page waits";
      this.#say(`The ${who} does not answer.`);
      if (gone.hidden) put(gone, `No answer from the ${who}.${since}, and tries to reconnect.`);
      gone.hidden = false;
      gone.dataset.seconds =
        seconds >= 2 ? `for ${seconds < 10 ? `${seconds} s` : format.duration(seconds)}` : "";
      return;
    }
    gone.hidden = true;
    if (!this.#overview || this.#overview.now_ms === null) return;
    const ms = this.#now(this.#overview.is_simulated ? 0 : performance.now() - this.#received);
    const clock = byId("clock");
    put(clock, `${format.clock(ms)} UTC`);
    clock.dateTime = new Date(ms).toISOString();
    clock.title = format.weekday(ms);
  }

  #now(elapsed) {
    return this.#overview.now_ms + elapsed;
  }

  #showReasons(reasons) {
    const text = JSON.stringify(reasons);
    if (text === this.#reasons) return;
    this.#reasons = text;
    const list = byId("reasons");
    list.hidden = reasons.length === 0;
    const items = reasons
      .slice(0, FEW_REASONS)
      .map((reason) =>
        el(
          "li",
          { data: { verdict: reason.verdict } },
          glyph(`mark-${reason.verdict}`, "mark"),
          reason.text,
        ),
      );
    if (reasons.length > FEW_REASONS) {
      const rest = reasons.slice(FEW_REASONS);
      items.push(
        el(
          "li",
          { class: "more" },
          el(
            "details",
            {},
            el("summary", {}, `${format.counted(rest.length, "more reason")}`),
            el("ul", {}, ...rest.map((reason) => el("li", {}, reason.text))),
          ),
        ),
      );
    }
    list.replaceChildren(...items);
  }

  #showFigures({ totals, last_lag_seconds: lag, disk, is_live: isLive, process }) {
    if (totals) this.#showTotals(totals);
    if (isLive)
      this.#figure(
        "lag",
        "Commit lag",
        lag === null || lag === undefined ? format.NONE : lag.toFixed(2),
        "s",
      );
    if (disk) this.#figure("disk", "On disk", format.bytes(disk.file_bytes), roomText(disk));
    if (process) this.#figure("uptime", "Running for", format.duration(process.uptime_seconds), "");
  }

  #showTotals(totals) {
    this.#figure(
      "complete",
      "Complete",
      format.percent(totals.percent),
      totals.percent === null ? "" : "%",
    );
    this.#figure(
      "series",
      "Series complete",
      format.whole(totals.complete_series),
      `of ${format.whole(totals.series)}`,
    );
    this.#figure(
      "stored",
      "Candles stored",
      format.short(totals.stored),
      "",
      format.whole(totals.stored),
    );
    this.#figure(
      "refilled",
      "Refilled",
      format.short(totals.refilled),
      "",
      format.whole(totals.refilled),
    );
    this.#figure(
      "pending",
      "Pending",
      format.short(totals.pending),
      "",
      byReason(totals, totals.pending),
      totals.pending > 0,
    );
    this.#figure(
      "absent",
      "Absent",
      format.short(totals.absent),
      "",
      byReason(totals, totals.absent),
      totals.absent > 0,
    );
    if (totals.unaccounted || this.#figures.has("unaccounted"))
      this.#figure(
        "unaccounted",
        "Unaccounted",
        format.short(totals.unaccounted),
        "",
        format.whole(totals.unaccounted),
        totals.unaccounted > 0,
      );
  }

  #figure(key, name, value, unit, title = "", isMarked = false) {
    let held = this.#figures.get(key);
    if (!held) {
      const number = el("b");
      const small = el("small");
      const box = el("div", { data: { key } }, el("dt", {}, name), el("dd", {}, number, small));
      held = { box, number, small };
      this.#figures.set(key, held);
      // The totals may come after the rest, and stand before it.
      const later = FIGURES.slice(FIGURES.indexOf(key) + 1).find((one) => this.#figures.has(one));
      byId("figures").insertBefore(box, later ? this.#figures.get(later).box : null);
    }
    put(held.number, value);
    put(held.small, unit);
    held.box.classList.toggle("is-marked", isMarked);
    if (title && held.box.title !== title) held.box.title = title;
  }

  #foot({ version, process }) {
    const foot = byId("foot");
    const text = `kline_trio ${version}${process ? `, process ${process.pid}, ${format.bytes(process.memory_bytes)} of memory` : ""}`;
    if (foot.dataset.text === text) return;
    foot.dataset.text = text;
    foot.replaceChildren(
      el("span", {}, text),
      el("span", {}, "All times are UTC."),
      el(
        "span",
        {},
        "Charts by ",
        el(
          "a",
          { href: "https://www.tradingview.com/lightweight-charts/", rel: "noreferrer" },
          "TradingView Lightweight Charts™",
        ),
        " and ",
        el("a", { href: "https://github.com/leeoniya/uPlot", rel: "noreferrer" }, "uPlot"),
        ".",
      ),
    );
  }
}

/** Return a text whose numbers stay with their units where a line breaks. */
function unbroken(text) {
  const parts = text.split(/(\d[\d,.:]* (?:s|min|h|d|%)(?![\p{L}\d]))/u);
  return parts.map((part, index) => (index % 2 ? el("span", { class: "nowrap" }, part) : part));
}

function byReason(totals, count) {
  const reasons = Object.entries(totals.by_reason ?? {}).map(
    ([reason, count]) => `${reason}: ${format.whole(count)}`,
  );
  return [format.whole(count), ...(count ? reasons : [])].join("\n");
}

function roomText(disk) {
  if (disk.days_left === null || disk.days_left === undefined)
    return `${format.bytes(disk.free_bytes)} free`;
  return disk.days_left > 3650
    ? "room for years"
    : `room for ${format.counted(Math.floor(disk.days_left), "day")}`;
}
