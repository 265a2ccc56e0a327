// The candles at hand: a window of time on an even grid, so that places on the screen are moments (pure).

/** A window of candles. `bars` has an entry for each step; one without `open` is empty. */
export class Window {
  constructor({ step, isCoarse, from, to, times, columns }) {
    this.step = step;
    this.isCoarse = isCoarse;
    this.from = from;
    this.to = to;
    this.bars = grid(times, columns, step);
    this.times = this.bars.map((bar) => bar.ms);
  }

  get first() {
    return this.times[0] ?? this.from;
  }

  get last() {
    return this.times.at(-1) ?? this.to;
  }

  /** Return the moment at a place on the scale, which may lie outside of the window. */
  msAt(logical) {
    const { times, step } = this;
    const end = times.length - 1;
    if (end < 0) return this.from + logical * step;
    if (logical <= 0) return times[0] + logical * step;
    if (logical >= end) return times[end] + (logical - end) * step;
    const before = Math.floor(logical);
    return times[before] + (logical - before) * (times[before + 1] - times[before]);
  }

  /** Return the place of a moment on the scale. */
  logicalAt(ms) {
    const { times, step } = this;
    const end = times.length - 1;
    if (end < 0) return (ms - this.from) / step;
    if (ms <= times[0]) return (ms - times[0]) / step;
    if (ms >= times[end]) return end + (ms - times[end]) / step;
    const before = this.indexAt(ms);
    return before + (ms - times[before]) / (times[before + 1] - times[before]);
  }

  /** Return the index of the bar that holds a moment, or -1. */
  indexAt(ms) {
    let [low, high] = [0, this.times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= ms) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Take a closed candle of the stream. Return the bars that changed, oldest first; null if a fetch is needed. */
  add(candle) {
    const end = this.bars.length - 1;
    if (end < 0) return null;
    const last = this.bars[end];
    const ms = candle.open_time_ms;
    if (ms < last.ms) {
      const index = this.indexAt(ms);
      const held = this.bars[index];
      if (index < 0 || this.isCoarse || held.open !== undefined) return [];
      return null; // A refilled candle: the chart takes only the newest one by one.
    }
    if (ms < last.ms + this.step) {
      this.bars[end] = merged(last, candle);
      return [this.bars[end]];
    }
    const added = [];
    for (let next = last.ms + this.step; next + this.step <= ms; next += this.step)
      added.push({ ms: next });
    added.push(
      merged({ ms: Math.floor((ms - last.ms) / this.step) * this.step + last.ms }, candle),
    );
    if (added.length > 2000) return null;
    for (const bar of added) {
      this.bars.push(bar);
      this.times.push(bar.ms);
    }
    this.to = Math.max(this.to, ms + this.step);
    return added;
  }
}

function merged(bar, candle) {
  const { open, high, low, close, volume } = candle;
  if (bar.open === undefined || bar.newest === candle.open_time_ms) {
    const isWhole = bar.open === undefined || bar.ms === candle.open_time_ms;
    if (isWhole) return { ms: bar.ms, open, high, low, close, volume, newest: candle.open_time_ms };
    return bar;
  }
  return {
    ms: bar.ms,
    open: bar.open,
    high: Math.max(bar.high, high),
    low: Math.min(bar.low, low),
    close,
    volume: bar.volume + volume,
    newest: candle.open_time_ms,
  };
}

function grid(times, { open, high, low, close, volume }, step) {
  const bars = [];
  // Months are uneven: their empty ones are left out.
  const isEven = step < 28 * 86_400_000;
  times.forEach((ms, index) => {
    if (isEven && index)
      for (let empty = times[index - 1] + step; empty < ms; empty += step) bars.push({ ms: empty });
    bars.push({
      ms,
      open: open[index],
      high: high[index],
      low: low[index],
      close: close[index],
      volume: volume[index],
    });
  });
  return bars;
}
