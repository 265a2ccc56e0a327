// Numbers, times and names as text. All times are UTC.

const WHOLE = new Intl.NumberFormat("en-US");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MARKETS = { spot: "Spot", usdt_futures: "USD-M futures", coin_futures: "COIN-M futures" };
const two = (number) => String(number).padStart(2, "0");

export const NONE = "–";

/** 1234567 -> "1,234,567". */
export function whole(number) {
  return number === null || number === undefined ? NONE : WHOLE.format(Math.round(number));
}

/** 1, "candle" -> "1 candle"; 2 -> "2 candles". */
export function counted(number, noun, plural = `${noun}s`) {
  return `${whole(number)} ${number === 1 ? noun : plural}`;
}

/** 1234567 -> "1.23 M". Below 10,000 the number is whole. */
export function short(number) {
  if (number === null || number === undefined) return NONE;
  if (Math.abs(number) < 10_000) return whole(number);
  for (const [size, unit] of [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (Math.abs(number) >= size) return `${(number / size).toPrecision(3)} ${unit}`;
  }
  return whole(number);
}

/** 99.99814 -> "99.998": never rounded up, so that only what is whole reads 100. */
export function percent(number, digits = 3) {
  if (number === null || number === undefined) return NONE;
  if (number >= 100) return "100";
  const scale = 10 ** digits;
  return (Math.floor(number * scale) / scale).toFixed(digits);
}

export function bytes(number) {
  if (number === null || number === undefined) return NONE;
  for (const [size, unit] of [
    [1e12, "TB"],
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "kB"],
  ]) {
    if (number >= size) return `${(number / size).toPrecision(3)} ${unit}`;
  }
  return `${number} B`;
}

/** 93784 -> "1 d 2 h"; 0.412 -> "0.41 s". At most two units. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  let rest = Math.round(seconds);
  const parts = [];
  for (const [size, unit] of [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ]) {
    const times = Math.floor(rest / size);
    rest -= times * size;
    if (times) parts.push(`${whole(times)} ${unit}`);
    if (parts.length === 2 || (parts.length && rest === 0)) break;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

/** "14:32:07". */
export function clock(ms, withSeconds = true) {
  const at = new Date(ms);
  const minutes = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  return withSeconds ? `${minutes}:${two(at.getUTCSeconds())}` : minutes;
}

/** "3 Nov 2026". */
export function day(ms) {
  const at = new Date(ms);
  return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]} ${at.getUTCFullYear()}`;
}

/** "Tue 3 Nov 2026". */
export function weekday(ms) {
  return `${DAYS[new Date(ms).getUTCDay()]} ${day(ms)}`;
}

export function month(ms) {
  return MONTHS[new Date(ms).getUTCMonth()];
}

export function year(ms) {
  return String(new Date(ms).getUTCFullYear());
}

/** "3 Nov 2026 14:32", with seconds where there are any. */
export function moment(ms) {
  if (ms === null || ms === undefined) return NONE;
  return `${day(ms)} ${clock(ms, ms % 60_000 !== 0)}`;
}

/** "3 Nov 2026 14:32 – 14:40"; the second day only where it differs. */
export function range(from, to) {
  return day(from) === day(to - 1) || day(from) === day(to)
    ? `${moment(from)} – ${clock(to, to % 60_000 !== 0)}`
    : `${moment(from)} – ${moment(to)}`;
}

/** The name of a market for people. */
export function market(tradeType) {
  return MARKETS[tradeType] ?? tradeType;
}

/** "spot/BTCUSDT/1m" -> its three parts. A symbol may hold a slash. */
export function seriesParts(key) {
  const first = key.indexOf("/");
  const last = key.lastIndexOf("/");
  return {
    tradeType: key.slice(0, first),
    symbol: key.slice(first + 1, last),
    interval: key.slice(last + 1),
  };
}

const UNITS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000, M: 2_629_746_000 };

/** "15m" -> 900000. A month counts its mean length. */
export function intervalMs(interval) {
  const unit = interval.endsWith("mo") ? "M" : interval.slice(-1);
  return (Number.parseInt(interval, 10) || 1) * (UNITS[unit] ?? 60_000);
}

/** 14400000 -> "4 h". */
export function stepName(ms) {
  for (const [size, unit] of [
    [86_400_000, "d"],
    [3_600_000, "h"],
    [60_000, "min"],
    [1000, "s"],
  ]) {
    if (ms >= size && ms % size === 0) return `${ms / size} ${unit}`;
  }
  return duration(ms / 1000);
}

/** A price with as many digits as its size asks for. */
export function price(number, digits = priceDigits(number)) {
  if (number === null || number === undefined) return NONE;
  return number.toLocaleString("en-US", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

export function priceDigits(number) {
  const size = Math.abs(number ?? 1);
  if (size >= 1000) return 2;
  if (size === 0) return 2;
  return Math.min(8, Math.max(2, 4 - Math.floor(Math.log10(size))));
}
