// What a group lacked in one cell of the calendar: its gaps, each with a way to its series.

import { finerAddress } from "./calendar.js";
import { address, get, isAborted } from "./api.js";
import { byId, el } from "./dom.js";
import * as format from "./format.js";
import { changed, go, href } from "./router.js";
import { gapTable } from "./gaps.js";

const MOST = 1000;
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
    try {
      const { gaps, truncated } = await get("gaps", { from_ms, to_ms, limit: MOST }, stop.signal);
      const inside = gaps.filter((gap) => gap.series.startsWith(`${of}/`));
      const csv = el(
        "p",
        { class: "links" },
        "All gaps of this time: ",
        el("a", { href: address("gaps", { from_ms, to_ms, limit: 5000, format: "csv" }) }, "CSV"),
        " ",
        el("a", { href: address("gaps", { from_ms, to_ms, limit: 5000 }) }, "JSON"),
      );
      if (!inside.length)
        panel.replaceChildren(
          head,
          el(
            "p",
            { class: "empty" },
            truncated
              ? "Too many gaps to show: choose smaller cells."
              : "The ledger has no gap here.",
          ),
        );
      else {
        const more = truncated
          ? `${format.counted(inside.length, "gap")}, and there are more. `
          : `${format.counted(inside.length, "gap")}. `;
        csv.prepend(more);
        panel.replaceChildren(head, gapTable(inside, { withSeries: true }), csv);
        panel.scrollIntoView({ block: "nearest" });
      }
    } catch (error) {
      if (!isAborted(error))
        panel.replaceChildren(
          head,
          el("p", { class: "empty" }, `The gaps did not come: ${error.message}`),
        );
    }
  }
}

function spanName(from, to) {
  if (from % DAY || to % DAY) return format.range(from, to);
  return to - from === DAY ? format.weekday(from) : `${format.day(from)} – ${format.day(to - 1)}`;
}
