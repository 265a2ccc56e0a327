// The candlestick chart of one series: loads what is in view, as fine as the screen can show.

import {
  CandlestickSeries,
  createChart,
  CrosshairMode,
  HistogramSeries,
} from "./vendor/lightweight-charts.js";
import { get, isAborted } from "./api.js";
import { cssValue, debounce } from "./dom.js";
import * as format from "./format.js";
import { Hatch } from "./series-hatch.js";
import { Window } from "./series-window.js";
import { onTheme } from "./theme.js";

const BAR = 3; // Pixels a candle should have at least.
const MOST_BARS = 6000;
const MOST_GAPS = 500;
const DAY = 86_400_000;

export class SeriesChart {
  #room;
  #act;
  #chart;
  #candles;
  #volume;
  #hatch;
  #series = null;
  #window = null;
  #gaps = [];
  #visible = null; // {from, to} in milliseconds
  #loaded = null; // The span of the view that was loaded last.
  #stop = null;
  #isHeld = false;
  #isTouched = false; // A person has moved the chart since a span was shown.
  #ready = null; // A window that waits until the chart is not held.
  #isQuiet = 0;
  #settleSoon = debounce(() => this.#settle(), 110);
  #mend = debounce(() => this.#window && this.#load(), 1500);

  /** `act` has hovered(bar, gap), moved(from, to, {isNewest, isTouched}), loaded(window) and failed(error). */
  constructor(room, act) {
    this.#room = room;
    this.#act = act;
    this.#chart = createChart(room, { autoSize: true, ...options() });
    this.#candles = this.#chart.addSeries(CandlestickSeries, candleOptions());
    this.#volume = this.#chart.addSeries(HistogramSeries, {
      priceScaleId: "volume",
      priceFormat: { type: "volume" },
      color: cssValue("--volume"),
      lastValueVisible: false,
      priceLineVisible: false,
    });
    this.#chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });
    this.#candles.priceScale().applyOptions({ scaleMargins: { top: 0.17, bottom: 0.2 } });
    this.#hatch = new Hatch((gap) => this.#place(gap));
    this.#candles.attachPrimitive(this.#hatch);
    this.#chart.timeScale().subscribeVisibleLogicalRangeChange(() => this.#moved());
    this.#chart.subscribeCrosshairMove((at) => this.#hovered(at));
    onTheme(() => this.#paint());
    room.addEventListener("pointerdown", () => (this.#isHeld = true));
    for (const touch of ["pointerdown", "wheel", "keydown"])
      room.addEventListener(touch, () => (this.#isTouched = true), {
        passive: true,
        capture: true,
      });
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => this.#release());
    room.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show a series: {key, interval, first, last} in milliseconds; `to` null: up to the newest candle. */
  open(series, from, to) {
    this.#series = series;
    this.#gaps = [];
    this.#hatch.gaps = [];
    this.#window = null;
    this.#put([]);
    this.show(from, to);
  }

  get key() {
    return this.#series?.key ?? null;
  }

  close() {
    this.#stop?.abort();
    this.#series = null;
    this.#window = null;
    this.#ready = null;
  }

  /** Show a span. Without one, show the newest candles. */
  show(asked, to) {
    const { step, first, last } = this.#series;
    const end = to ?? last;
    const room = Math.max(this.#room.clientWidth, 300);
    const from = asked === null ? null : Math.max(asked, first);
    // The newest candles, 7 pixels wide; if the series is younger, up to 24.
    const begin =
      from ??
      Math.min(
        Math.max(first, end - step * Math.round(room / 7)),
        end - step * Math.round(room / 24),
      );
    // At least 20 candles.
    const air = Math.max(0, 20 * step - (end - begin)) / 2;
    this.#visible = { from: begin - air, to: to === null ? end + (end - begin) * 0.03 : end + air };
    this.#isTouched = false;
    this.#load();
  }

  /** Take a candle of the stream. */
  add(candle) {
    if (!this.#series || candle.series !== this.#series.key) return;
    this.#series.last = Math.max(this.#series.last, candle.open_time_ms + this.#series.step);
    const held = this.#window;
    if (!held || held.to < candle.open_time_ms - 2 * held.step) return; // The newest candles are not in the window.
    const changed = held.add(candle);
    if (changed === null || held.bars.length > MOST_BARS) {
      this.#load();
      return;
    }
    for (const bar of changed) {
      this.#candles.update(point(bar));
      this.#volume.update(volumePoint(bar));
    }
    if (changed.length) this.#act.loaded(held);
    // A hole before the new candle: the one between may have come before the stream was open.
    if (changed.length > 1) this.#mend();
  }

  /** Learn up to when there are candles; with `isOther` fetch candles and gaps in view again. */
  refresh(last, isOther) {
    if (!this.#series || !this.#visible) return;
    const later = last - this.#series.last;
    if (later > 0 && isOther && this.#visible.to >= this.#series.last) {
      // Who looks at the newest candles goes on doing so.
      this.#visible = { from: this.#visible.from + later, to: this.#visible.to + later };
    }
    this.#series.last = Math.max(this.#series.last, last);
    if (isOther && this.#window) this.#load();
  }

  async #load() {
    const { key, first, last, step } = this.#series;
    const { from, to } = this.#visible;
    const span = to - from;
    const begin = Math.max(first, Math.floor(from - span));
    const end = Math.min(last, Math.ceil(to + span));
    this.#stop?.abort();
    const stop = new AbortController();
    this.#stop = stop;
    this.#loaded = { from, to };
    const bars = Math.max(60, Math.round(this.#room.clientWidth / BAR));
    const points = Math.min(
      3000,
      Math.max(100, Math.ceil((bars * Math.max(end - begin, step)) / span)),
    );
    const query = { series: key, from_ms: begin, to_ms: Math.max(end, begin + step) };
    this.#act.busy?.(true);
    try {
      const [answer, { gaps }] = await Promise.all([
        get("candles", { ...query, points }, stop.signal),
        get("gaps", { ...query, limit: MOST_GAPS }, stop.signal),
      ]);
      this.#ready = {
        window: new Window({
          step: answer.step_ms,
          isCoarse: answer.is_coarse,
          from: begin,
          to: end,
          times: answer.open_time_ms,
          columns: answer,
        }),
        gaps,
      };
      if (!this.#isHeld) this.#apply();
    } catch (error) {
      if (!isAborted(error)) this.#act.failed(error);
    } finally {
      if (this.#stop === stop) this.#act.busy?.(false);
    }
  }

  #apply() {
    const { window: next, gaps } = this.#ready;
    this.#ready = null;
    this.#window = next;
    this.#gaps = gaps;
    this.#put(next.bars);
    const { from, to } = this.#visible;
    if (next.bars.length) {
      this.#isQuiet += 1;
      this.#chart
        .timeScale()
        .setVisibleLogicalRange({ from: next.logicalAt(from), to: next.logicalAt(to) });
      this.#isQuiet -= 1;
    }
    this.#hatch.gaps = gaps;
    const isNewest = next.to >= this.#series.last;
    this.#candles.applyOptions({ priceLineVisible: isNewest, lastValueVisible: isNewest });
    this.#act.loaded(next);
  }

  #put(bars) {
    this.#isQuiet += 1;
    const sample = bars.findLast?.((bar) => bar.close !== undefined);
    if (sample) {
      const precision = format.priceDigits(sample.close);
      this.#candles.applyOptions({
        priceFormat: { type: "price", precision, minMove: 10 ** -precision },
      });
    }
    this.#chart.applyOptions({
      timeScale: {
        timeVisible: (this.#window?.step ?? 0) < DAY,
        secondsVisible: (this.#window?.step ?? 0) < 60_000,
      },
    });
    this.#candles.setData(bars.map(point));
    this.#volume.setData(bars.map(volumePoint));
    this.#isQuiet -= 1;
  }

  #moved() {
    if (this.#isQuiet || !this.#window) return;
    const range = this.#chart.timeScale().getVisibleLogicalRange();
    if (!range) return;
    this.#visible = { from: this.#window.msAt(range.from), to: this.#window.msAt(range.to) };
    this.#settleSoon();
  }

  /** After a move: load more if the view has come near the edge of the window, or needs other candles. */
  #settle() {
    if (!this.#series || !this.#window) return;
    const { from, to } = this.#visible;
    const { first, last } = this.#series;
    const span = to - from;
    const near = span * 0.3;
    const isShort =
      (from - near < this.#window.from && this.#window.from > first) ||
      (to + near > this.#window.to && this.#window.to < last);
    const zoomed = Math.abs(Math.log2(span / (this.#loaded.to - this.#loaded.from))) > 0.45;
    const wanted = this.#room.clientWidth / BAR;
    const shown = span / this.#window.step;
    const isOther =
      zoomed && (shown > wanted * 1.3 || (this.#window.isCoarse && shown < wanted / 2));
    if (isShort || isOther) this.#load();
    this.#act.moved(Math.round(from), Math.round(to), {
      isNewest: to >= last,
      isTouched: this.#isTouched,
    });
  }

  #release() {
    this.#isHeld = false;
    if (this.#ready && this.#series)
      setTimeout(() => this.#ready && !this.#isHeld && this.#apply(), 60);
  }

  #place(gap) {
    const scale = this.#chart.timeScale();
    const zero = scale.logicalToCoordinate(0);
    if (zero === null || !this.#window) return [-100, -100];
    const wide = scale.logicalToCoordinate(100) - zero;
    const x = (ms) => zero + ((this.#window.logicalAt(ms) - 0.5) * wide) / 100;
    return [x(gap.from_ms), x(gap.to_ms)];
  }

  #hovered(at) {
    if (!this.#window || at.logical === undefined || at.logical === null || !at.point) {
      this.#act.hovered(null, null);
      return;
    }
    const ms = this.#window.msAt(Math.round(at.logical));
    const bar = this.#window.bars[Math.round(at.logical)];
    const gap =
      this.#gaps.find(
        (one) => one.state !== "filled" && one.from_ms < ms + this.#window.step && one.to_ms > ms,
      ) ?? this.#gaps.find((one) => one.from_ms < ms + this.#window.step && one.to_ms > ms);
    this.#act.hovered(bar?.open === undefined ? null : bar, gap ?? null, ms);
  }

  #key(event) {
    const range = this.#chart.timeScale().getVisibleLogicalRange();
    if (!range || event.ctrlKey || event.metaKey || event.altKey) return;
    const span = range.to - range.from;
    const shift = (part) => ({ from: range.from + span * part, to: range.to + span * part });
    const scale = (part) => ({ from: range.to - span * part, to: range.to });
    const next = {
      ArrowLeft: () => shift(-0.15),
      ArrowRight: () => shift(0.15),
      PageUp: () => shift(-0.9),
      PageDown: () => shift(0.9),
      "+": () => scale(0.7),
      "=": () => scale(0.7),
      "-": () => scale(1 / 0.7),
    }[event.key];
    if (!next) return;
    event.preventDefault();
    this.#chart.timeScale().setVisibleLogicalRange(next());
  }

  #paint() {
    this.#chart.applyOptions(options());
    this.#candles.applyOptions(candleOptions());
    this.#volume.applyOptions({ color: cssValue("--volume") });
  }
}

function point({ ms, open, high, low, close }) {
  const time = ms / 1000;
  return open === undefined ? { time } : { time, open, high, low, close };
}

function volumePoint({ ms, volume, open }) {
  const time = ms / 1000;
  return open === undefined ? { time } : { time, value: volume };
}

function candleOptions() {
  const [up, down] = [cssValue("--candle-up"), cssValue("--candle-down")];
  return {
    upColor: up,
    downColor: down,
    wickUpColor: up,
    wickDownColor: down,
    borderVisible: false,
    priceLineWidth: 1,
    priceLineColor: cssValue("--ink-muted"),
  };
}

function options() {
  const line = { color: cssValue("--hairline") };
  const cross = { color: cssValue("--ink-muted"), labelBackgroundColor: cssValue("--ink-soft") };
  return {
    layout: {
      background: { color: "transparent" },
      textColor: cssValue("--ink-muted"),
      fontSize: 11,
      fontFamily: getComputedStyle(document.body).fontFamily,
      attributionLogo: false,
    },
    grid: { vertLines: { visible: false }, horzLines: line },
    crosshair: { mode: CrosshairMode.Normal, vertLine: cross, horzLine: cross },
    rightPriceScale: { borderVisible: false },
    timeScale: {
      borderColor: cssValue("--hairline"),
      rightOffset: 4,
      minBarSpacing: 0.4,
      timeVisible: true,
    },
    localization: {
      locale: "en-GB",
      priceFormatter: (number) => format.price(number),
      timeFormatter: (seconds) => format.moment(seconds * 1000),
    },
  };
}
