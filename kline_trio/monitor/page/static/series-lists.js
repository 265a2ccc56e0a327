// The lists below the chart: gaps, revisions and files of a series.

import { address, get } from "./api.js";
import { el } from "./dom.js";
import * as format from "./format.js";
import { gapTable } from "./gaps.js";
import { fileTable, revisionTable } from "./series-tables.js";

const LISTS = [
  {
    name: "gaps",
    title: "Gaps",
    limit: 200,
    table: gapTable,
    nothing: "No gap: every due candle is stored as the stream brought it.",
  },
  {
    name: "revisions",
    title: "Revisions",
    limit: 100,
    table: revisionTable,
    nothing: "No revision: no value came twice with a difference.",
  },
  {
    name: "files",
    title: "Files",
    limit: null,
    table: fileTable,
    nothing: "No file yet: the candles are in the journal.",
  },
];

/** Fetch the lists of a series and show them. A list that does not come stays as it was. */
export async function showLists(parts, key, signal) {
  const asked = LISTS.map(({ name, limit }) => get(name, { series: key, limit }, signal));
  const answers = await Promise.allSettled(asked);
  if (signal.aborted) return;
  answers.forEach((answer, number) => {
    const list = LISTS[number];
    if (answer.status === "fulfilled") show(parts[list.name], list, key, answer.value);
  });
}

function show(box, { name, title, limit, table, nothing }, key, answer) {
  const rows = answer[name];
  const all = { series: key, limit: limit === null ? null : 5000 };
  const count = `${format.whole(rows.length)}${answer.truncated ? " newest" : ""}`;
  const head = el(
    "div",
    { class: "section-head" },
    el("h2", {}, title, rows.length ? el("span", { class: "count" }, count) : null),
    el(
      "span",
      { class: "links" },
      el("a", { href: address(name, { ...all, format: "csv" }) }, "CSV"),
      " ",
      el("a", { href: address(name, all) }, "JSON"),
    ),
  );
  const top = box.querySelector(".table-box")?.scrollTop ?? 0;
  box.replaceChildren(head, rows.length ? table(rows) : el("p", { class: "empty" }, nothing));
  const shown = box.querySelector(".table-box");
  if (shown) shown.scrollTop = top;
}
