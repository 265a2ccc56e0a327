// A tab's side of the event stream: a SharedWorker where there is one, else a stream of its own.

import { BASE } from "./api.js";
import { Feed } from "./feed.js";

const ALIVE_MS = 15_000;
const listeners = new Map();
let series = [];
let send = () => {};

/** Run a function with the JSON of each event: overview, sample, candle; gone and back have none. */
export function onStream(kind, run) {
  if (!listeners.has(kind)) listeners.set(kind, new Set());
  listeners.get(kind).add(run);
  return () => listeners.get(kind).delete(run);
}

/** Name the series whose candles are wanted. */
export function watchSeries(keys) {
  series = keys;
  send();
}

export function startStream() {
  send = (typeof SharedWorker === "function" && byWorker()) || byItself();
  document.addEventListener("visibilitychange", () => send());
  addEventListener("pageshow", () => send());
  send();
}

function receive({ kind, data }) {
  const value = data === null ? null : JSON.parse(data);
  for (const run of listeners.get(kind) ?? []) run(value);
}

function isVisible() {
  return document.visibilityState === "visible";
}

function byWorker() {
  let worker;
  try {
    worker = new SharedWorker(new URL("stream-worker.js", import.meta.url), {
      type: "module",
      name: "kline_trio",
    });
  } catch {
    return null;
  }
  const post = () =>
    worker.port.postMessage({ kind: "tab", base: BASE, isVisible: isVisible(), series });
  worker.port.onmessage = (event) => receive(event.data);
  worker.onerror = () => {
    // The worker could not be loaded: this tab listens for itself.
    send = byItself();
    send();
  };
  setInterval(() => isVisible() && post(), ALIVE_MS);
  addEventListener("pagehide", () => worker.port.postMessage({ kind: "bye" }));
  return post;
}

function byItself() {
  const feed = new Feed(BASE, receive);
  addEventListener("pagehide", () => feed.close());
  return () => (isVisible() ? feed.open(series) : feed.close());
}
