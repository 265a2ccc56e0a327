// Lag and throughput of the last hour, as lines (uPlot).

import { address, get } from "./api.js";
import { byId, cssValue, el, loadScript, loadStyle, put } from "./dom.js";
import * as format from "./format.js";
import { onTheme } from "./theme.js";

const HEIGHT = 132;
const STEPS = 360;
const LEAST_SECONDS = 600; // A recorder that has just begun does not fill the lines.
const PLOTS = [
  {
    key: "lag",
    title: "Lag from close to disk",
    unit: "s",
    series: [
      ["lag_p50", "median", "--line-1"],
      ["lag_max", "worst", "--line-2"],
    ],
  },
  { key: "frames", title: "Frames a second", unit: "", series: [["frames", "", "--line-1"]] },
  {
    key: "candles",
    title: "Candles committed in 10 s",
    unit: "",
    series: [["candles", "", "--line-1"]],
    bars: true,
  },
];

export class RatesView {
  #plots = new Map();
  #history = null;
  #isAsked = false;

  constructor() {
    new ResizeObserver(() => this.#resize()).observe(byId("rates"));
    onTheme(() => this.#rebuild());
  }

  /** Show or hide the lines: a stopped store has none. */
  show(isLive) {
    byId("rates").hidden = !isLive;
    if (isLive && !this.#history && !this.#isAsked) this.refresh();
  }

  /** Fetch the last hour. */
  async refresh() {
    this.#isAsked = true;
    try {
      const [history] = await Promise.all([
        get("history"),
        loadScript("vendor/uplot.js"),
        loadStyle("vendor/uplot.css"),
      ]);
      this.#history = columns(history);
      this.#draw();
    } catch {
      // The header says that the recorder is gone; the lines stay as they were.
    } finally {
      this.#isAsked = false;
    }
  }

  /** Add one step of the stream. */
  add(sample) {
    const held = this.#history;
    if (!held || sample.time_ms / 1000 <= held.time.at(-1)) return;
    held.time.push(sample.time_ms / 1000);
    for (const name of ["frames", "candles", "lag_p50", "lag_max"])
      held[name].push(sample[name] ?? null);
    if (held.time.length > STEPS) for (const column of Object.values(held)) column.shift();
    this.#draw();
  }

  #draw() {
    if (byId("rates").hidden || !this.#history) return;
    if (!this.#plots.size) {
      PLOTS.forEach((plot) => this.#build(plot));
      this.#link();
    }
    for (const plot of PLOTS) {
      const held = this.#plots.get(plot.key);
      held.chart.setData([this.#history.time, ...plot.series.map(([name]) => this.#history[name])]);
      this.#describe(plot, held, null);
    }
  }

  #build(plot) {
    const value = el("output", { class: "plot-value" });
    const room = el("div", { class: "plot-room", role: "img" });
    const box = el(
      "figure",
      { class: "plot", data: { key: plot.key } },
      el("figcaption", {}, el("h2", {}, plot.title), value),
      room,
    );
    byId("rates").append(box);
    const held = { box, room, value, chart: null };
    this.#plots.set(plot.key, held);
    held.chart = this.#chart(plot, held);
  }

  #link() {
    const links = el(
      "span",
      { class: "links" },
      "The last hour: ",
      el("a", { href: address("history", { format: "csv" }) }, "CSV"),
      " ",
      el("a", { href: address("history") }, "JSON"),
    );
    byId("rates").append(links);
  }

  #chart(plot, held) {
    const muted = cssValue("--ink-muted");
    const line = cssValue("--hairline");
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: muted, font, ticks: { show: false }, gap: 4 };
    return new window.uPlot(
      {
        width: Math.max(160, held.room.clientWidth),
        height: HEIGHT,
        tzDate: (seconds) => window.uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        legend: { show: false },
        padding: [6, 16, 0, 0],
        cursor: {
          y: false,
          points: { size: 6 },
          drag: { setScale: false, x: false, y: false },
          sync: { key: "rates" },
        },
        scales: {
          x: {
            time: true,
            range: (chart, least, most) => [Math.min(least, most - LEAST_SECONDS), most],
          },
          y: { range: (chart, least, most) => [0, most > 0 ? most * 1.12 : 1] },
        },
        axes: [
          {
            ...axis,
            size: 22,
            space: 70,
            grid: { show: false },
            values: (chart, splits) => splits.map((one) => format.clock(one * 1000, false)),
          },
          {
            ...axis,
            size: 42,
            space: 34,
            grid: { stroke: line, width: 1 },
            values: (chart, splits) => splits.map((one) => format.short(one)),
          },
        ],
        series: [
          {},
          ...plot.series.map(([, label, colour], index) => ({
            label,
            stroke: cssValue(colour),
            fill: plot.series.length === 1 ? `${cssValue(colour)}22` : undefined,
            width: index ? 1.25 : 1.5,
            spanGaps: true,
            points: { show: false },
            paths: plot.bars ? window.uPlot.paths.bars({ size: [0.7, 8, 1] }) : undefined,
          })),
        ],
        hooks: { setCursor: [(chart) => this.#describe(plot, held, chart.cursor.idx)] },
      },
      [[], ...plot.series.map(() => [])],
      held.room,
    );
  }

  #describe(plot, held, index) {
    const history = this.#history;
    if (!history) return;
    const values = plot.series.map(([name, label]) => {
      const at = index ?? lastIndex(history[name]);
      const value = nearest(history[name], at);
      const shown =
        value === null
          ? format.NONE
          : plot.unit
            ? `${value.toFixed(2)} ${plot.unit}`
            : format.short(value);
      return [label, shown];
    });
    const when =
      index === null || index === undefined ? null : format.clock(history.time[index] * 1000);
    const lines = values.map(([label, shown], number) =>
      el(
        "span",
        label ? { data: { line: number + 1 } } : {},
        label ? `${label} ` : "",
        el("b", {}, shown),
      ),
    );
    held.value.replaceChildren(...(when ? [el("span", {}, when)] : []), ...lines);
    if (!when)
      held.room.setAttribute(
        "aria-label",
        `${plot.title}, the last hour. Now: ${values.flat().filter(Boolean).join(" ")}`,
      );
  }

  #resize() {
    for (const held of this.#plots.values()) {
      const width = held.room.clientWidth;
      if (width && Math.abs(width - held.chart.width) >= 1)
        held.chart.setSize({ width, height: HEIGHT });
    }
  }

  #rebuild() {
    for (const plot of PLOTS) {
      const held = this.#plots.get(plot.key);
      if (!held) continue;
      held.chart.destroy();
      held.chart = this.#chart(plot, held);
    }
    this.#draw();
  }
}

function columns({ time_ms: times, frames, candles, lag_p50, lag_max }) {
  return {
    time: times.map((ms) => ms / 1000),
    frames: [...frames],
    candles: [...candles],
    lag_p50: [...lag_p50],
    lag_max: [...lag_max],
  };
}

function lastIndex(values) {
  return values.length - 1;
}

/** Return the value at an index, or the one before it: there is a lag only when a candle closes. */
function nearest(values, index) {
  for (let at = index; at >= 0 && at > index - 12; at -= 1) {
    if (values[at] !== null && values[at] !== undefined) return values[at];
  }
  return null;
}
