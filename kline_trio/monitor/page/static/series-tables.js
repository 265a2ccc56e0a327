// Revisions and files of a series, as tables.

import { el } from "./dom.js";
import * as format from "./format.js";

function table(name, heads, rows) {
  return el("div", { class: "table-box", tabindex: 0, role: "region", "aria-label": name },
    el("table", {}, el("thead", {}, el("tr", {}, ...heads.map(([text, kind]) => el("th", { scope: "col", class: kind }, text)))), el("tbody", {}, ...rows)),
  );
}

/** Return a table of revisions: two values for one candle. */
export function revisionTable(revisions) {
  const rows = revisions.map((one) =>
    el("tr", {},
      el("td", { class: "span" }, format.moment(one.open_time_ms)),
      el("td", { class: "text" }, differences(one)),
      el("td", { class: "text wide" }, one.source ?? one.refused_source ?? format.NONE),
    ),
  );
  return table("Revisions", [["Candle", "span"], ["Differs", "text"], ["By", "text wide"]], rows);
}

function differences(one) {
  const names = one.columns ?? Object.keys(one.new ?? {});
  return names.map((name) => `${name.replaceAll("_", " ")} ${one.old?.[name] ?? "?"} → ${one.new?.[name] ?? "?"}`).join(", ") || format.NONE;
}

/** Return a table of files. */
export function fileTable(files) {
  const rows = files.map((file) =>
    el("tr", {},
      el("th", { scope: "row", class: "path" }, file.path),
      el("td", { class: "number" }, format.whole(file.rows)),
      el("td", { class: "number" }, format.bytes(file.size_bytes)),
    ),
  );
  return table("Files", [["Path", "path"], ["Rows", "number"], ["Size", "number"]], rows);
}
