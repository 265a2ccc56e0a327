// Gaps as a table.

import { el, table } from "./dom.js";
import * as format from "./format.js";
import { seriesAddress } from "./router.js";

/** The states of a gap: its name, and the state of the calendar whose colour it has. */
export const GAP_STATES = {
  pending: { name: "Pending", state: 5 },
  filled: { name: "Refilled", state: 2 },
  closed: { name: "Absent", state: 4 },
};

/** Return the address of a gap on the chart, with some candles before and after it. */
function gapAddress({ series, from_ms: from, to_ms: to }) {
  const air = Math.max(
    (to - from) * 0.75,
    40 * format.intervalMs(format.seriesParts(series).interval),
  );
  return seriesAddress(series, Math.round(from - air), Math.round(to + air));
}

/** Return a table of gaps, each with a way to its place on the chart. */
export function gapTable(gaps, { withSeries = false } = {}) {
  const heads = [
    withSeries ? ["Series", "name"] : null,
    ["Span", "span"],
    ["Candles", "number"],
    ["State", "state"],
    ["Reason", "text"],
    ["Asked", "number wide"],
  ].filter(Boolean);
  const rows = gaps.map((gap) => {
    const { name, state } = GAP_STATES[gap.state] ?? { name: gap.state, state: 3 };
    const { tradeType, symbol, interval } = format.seriesParts(gap.series);
    const text = format.range(gap.from_ms, gap.to_ms);
    return el(
      "tr",
      {},
      withSeries
        ? el(
            "th",
            { scope: "row", class: "name" },
            el(
              "a",
              { href: gapAddress(gap), data: { view: "" }, title: format.market(tradeType) },
              `${symbol} ${interval}`,
            ),
          )
        : null,
      el(
        "td",
        { class: "span" },
        withSeries ? text : el("a", { href: gapAddress(gap), data: { view: "" } }, text),
      ),
      el("td", { class: "number" }, format.whole(gap.candles)),
      el("td", { class: "state" }, el("span", { class: "swatch", data: { state } }, name)),
      el(
        "td",
        { class: "text" },
        gap.filled_by ? `${gap.reason}; from ${gap.filled_by}` : gap.reason,
      ),
      el("td", { class: "number wide" }, gap.asked ? `${format.whole(gap.asked)} ×` : format.NONE),
    );
  });
  return table("Gaps", heads, rows);
}
