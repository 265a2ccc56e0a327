// Revisions and files of a series, as tables.

import { el, table } from "./dom.js";
import * as format from "./format.js";

/** Return a table of revisions: two values for one candle. */
export function revisionTable(revisions) {
  const rows = revisions.map((one) =>
    el(
      "tr",
      {},
      el("td", { class: "span" }, format.moment(one.open_time_ms)),
      el("td", {}, one.column.replaceAll("_", " ")),
      value(one.older, one.kept === "older"),
      value(one.newer, one.kept === "newer"),
      el("td", { class: "wide" }, one.origin),
    ),
  );
  return table(
    "Revisions",
    [
      ["Candle", "span"],
      ["Column", "text"],
      ["Older", "number"],
      ["Newer", "number"],
      ["By", "wide"],
    ],
    rows,
  );
}

function value(number, isKept) {
  const cell = el("td", { class: isKept ? "number" : "number is-refused" }, String(number));
  cell.title = isKept ? "This value is kept" : "This value is in the ledger only";
  return cell;
}

/** Return a table of files. */
export function fileTable(files) {
  const rows = files.map((file) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", class: "path" }, file.path),
      el("td", { class: "number" }, format.whole(file.rows)),
      el("td", { class: "number" }, format.bytes(file.size_bytes)),
    ),
  );
  return table(
    "Files",
    [
      ["Path", "path"],
      ["Rows", "number"],
      ["Size", "number"],
    ],
    rows,
  );
}
