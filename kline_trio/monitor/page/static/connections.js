// Markets and connections, as small tables.

import { byId, el, put } from "./dom.js";
import * as format from "./format.js";

const MARKET_COLUMNS = [
  ["Market", (one) => format.market(one.trade_type), "name"],
  ["Series", (one) => format.whole(one.series), "number"],
  [
    "Lag",
    (one) => seconds(one.lag_p50_seconds),
    "number",
    "Median from a candle's close to the disk",
  ],
  [
    "99 %",
    (one) => seconds(one.lag_p99_seconds),
    "number wide",
    "99 % of the candles are on the disk after this time",
  ],
  ["Pending", (one) => format.whole(one.pending), "number"],
  ["REST", (one) => rest(one), "number", "Request weight that is used of what the exchange allows"],
];
const CONNECTION_COLUMNS = [
  ["Connection", (one) => one.name, "name"],
  [
    "State",
    (one) => (one.is_delivering ? "delivers" : `silent for ${format.duration(one.silent_seconds)}`),
    "state",
  ],
  ["Age", (one) => format.duration(one.age_seconds), "number"],
  ["Streams", (one) => format.whole(one.streams), "number"],
  ["Received", (one) => format.bytes(one.received_bytes), "number wide"],
  ["Reconnects", (one) => format.whole(one.reconnects), "number wide"],
  ["Last end", (one) => one.last_end ?? format.NONE, "text wide"],
];

export class ConnectionsView {
  #markets = null;
  #connections = null;

  /** Show the tables of the newest overview; a stopped store has none. */
  update({ is_live: isLive, markets, connections }) {
    const panel = byId("connections");
    panel.hidden = !isLive;
    if (!isLive) return;
    if (!this.#markets) {
      this.#markets = table("Markets", MARKET_COLUMNS);
      this.#connections = table("Connections", CONNECTION_COLUMNS);
      panel.append(
        el("h2", { id: "connections-title" }, "Connections"),
        this.#markets.box,
        this.#connections.box,
      );
    }
    fillTable(
      this.#markets,
      MARKET_COLUMNS,
      markets,
      (one) => (one.rest_problem || one.lag_p50_seconds === null ? "warning" : "fine"),
      (one) => one.rest_problem,
    );
    fillTable(
      this.#connections,
      CONNECTION_COLUMNS,
      connections,
      (one) => (one.is_delivering ? "fine" : "bad"),
      (one) => one.address,
    );
  }
}

function seconds(value) {
  return value === null || value === undefined ? format.NONE : `${value.toFixed(2)} s`;
}

function rest(one) {
  if (one.is_halted) return "halted";
  if (one.rest_problem) return "no answer";
  return one.rest_limit ? `${Math.round((100 * one.rest_used) / one.rest_limit)} %` : format.NONE;
}

function table(name, columns) {
  const body = el("tbody");
  const head = columns.map(([title, , kind, note]) => {
    const cell = el("th", { scope: "col", class: kind }, title);
    if (note) cell.title = note;
    return cell;
  });
  const box = el(
    "div",
    { class: "table-box", tabindex: 0, role: "group", "aria-label": name },
    el("table", { "aria-label": name }, el("thead", {}, el("tr", {}, ...head)), body),
  );
  return { box, body };
}

/** Set the rows of a table, using the elements that are there. */
function fillTable({ body }, columns, values, stateOf, titleOf) {
  while (body.rows.length > values.length) body.lastElementChild.remove();
  while (body.rows.length < values.length) {
    body.append(
      el(
        "tr",
        {},
        ...columns.map(([, , kind], index) =>
          el(index ? "td" : "th", { class: kind, scope: index ? null : "row" }),
        ),
      ),
    );
  }
  values.forEach((value, number) => {
    const row = body.rows[number];
    row.dataset.state = stateOf(value);
    const title = titleOf(value) ?? "";
    if (row.title !== title) row.title = title;
    columns.forEach(([, text], index) => put(row.cells[index], text(value)));
  });
}
