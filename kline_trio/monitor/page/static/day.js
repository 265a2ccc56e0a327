// What a group lacked in one cell of the calendar: its gaps, each with a way to its series.

import { finerAddress } from "./calendar.js";
import { address, get, isAborted } from "./api.js";
import { byId, el } from "./dom.js";
import * as format from "./format.js";
import { changed, go, href } from "./router.js";
import { gapTable } from "./gaps.js";

const MOST = 5000; // The API gives no more.
const MOST_SHOWN = 300;
const WEIGHTS = ["pending", "closed", "filled"];
const DAY = 86_400_000;

export class DayView {
  #shown = "";
  #stop = null;

  /** Show the day that the address names, or nothing. */
  async show(query) {
    const panel = byId("day");
    const from = Number(query.get("day"));
    const to = Number(query.get("until"));
    const of = query.get("of") ?? "";
    const text = from && to ? `${from} ${to} ${of}` : "";
    if (text === this.#shown) return;
    this.#shown = text;
    this.#stop?.abort();
    panel.hidden = !text;
    if (!text) return;
    const [tradeType, ...symbol] = of.split("/");
    const name = [symbol.join("/"), format.market(tradeType)].filter(Boolean).join(", ");
    const title = el("h2", { id: "day-title", tabindex: -1 }, `${name}, ${spanName(from, to)}`);
    const closer = finerAddress(from, to);
    const head = el(
      "div",
      { class: "section-head" },
      title,
      closer
        ? el(
            "a",
            { class: "text-button", href: href(closer), data: { view: "" } },
            "Show in smaller cells",
          )
        : null,
      el(
        "button",
        {
          type: "button",
          class: "text-button",
          on: { click: () => go(changed({ day: null, until: null, of: null })) },
        },
        "Close",
      ),
    );
    panel.replaceChildren(head, el("p", { class: "empty" }, "Loading…"));
    panel.scrollIntoView({
      block: "nearest",
      behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
    });
    title.focus({ preventScroll: true });
    await this.#fetch(panel, head, { from_ms: from, to_ms: to, of });
  }

  async #fetch(panel, head, { from_ms, to_ms, of }) {
    const stop = new AbortController();
    this.#stop = stop;
    const query = { from_ms, to_ms, limit: MOST };
    const say = (text) => panel.replaceChildren(head, el("p", { class: "empty" }, text));
    try {
      const { gaps, truncated } = await get("gaps", query, stop.signal);
      const inside = gaps.filter((gap) => gap.series.startsWith(`${of}/`)).sort(byWeight);
      if (!inside.length && truncated)
        say("There are too many gaps to show: choose smaller cells.");
      else if (!inside.length) say("The ledger has no gap here.");
      else {
        const table = gapTable(inside.slice(0, MOST_SHOWN), { withSeries: true });
        panel.replaceChildren(head, table, foot(inside.length, truncated, query));
        panel.scrollIntoView({ block: "nearest" });
      }
    } catch (error) {
      if (!isAborted(error)) say(`The gaps did not come: ${error.message}`);
    }
  }
}

/** What is still wrong comes first, and the longest of it. */
function byWeight(one, other) {
  return WEIGHTS.indexOf(one.state) - WEIGHTS.indexOf(other.state) || other.candles - one.candles;
}

function foot(count, isTruncated, query) {
  const shown = count > MOST_SHOWN ? `, ${MOST_SHOWN} are shown` : "";
  const more = isTruncated ? " or more" : "";
  return el(
    "p",
    { class: "links" },
    `${format.counted(count, "gap")}${more}${shown}. All gaps of this time: `,
    el("a", { href: address("gaps", { ...query, format: "csv" }) }, "CSV"),
    " ",
    el("a", { href: address("gaps", query) }, "JSON"),
  );
}

function spanName(from, to) {
  if (from % DAY || to % DAY) return format.range(from, to);
  return to - from === DAY ? format.weekday(from) : `${format.day(from)} – ${format.day(to - 1)}`;
}
