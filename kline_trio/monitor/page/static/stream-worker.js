// A SharedWorker: one event stream for all tabs of a browser, closed while none of them is visible.

import { Feed } from "./feed.js";

const SILENT_TAB_MS = 60_000; // A visible tab speaks every 15 s; one that crashed does not say goodbye.
const tabs = new Map(); // port -> {isVisible, series, heard}
let feed = null;
let overview = null; // The newest, for a tab that comes later.
let isGone = false;
let pending = 0;

function emit(event) {
  if (event.kind === "overview") overview = event;
  if (event.kind === "gone") isGone = true;
  if (event.kind === "back") isGone = false;
  for (const [port, tab] of tabs) if (tab.isVisible) port.postMessage(event);
}

function settle() {
  pending = 0;
  const visible = [...tabs.values()].filter((tab) => tab.isVisible);
  if (visible.length) feed?.open(new Set(visible.flatMap((tab) => tab.series)));
  else {
    feed?.close();
    overview = null;
    isGone = false;
  }
}

function settleSoon() {
  // Several messages of one moment reopen the stream once.
  pending ||= setTimeout(settle, 50);
}

function hear(port, message) {
  if (message.kind === "bye") tabs.delete(port);
  else {
    const before = tabs.get(port);
    tabs.set(port, { isVisible: message.isVisible, series: message.series, heard: Date.now() });
    feed ??= new Feed(message.base, emit);
    if (message.isVisible && !before?.isVisible) {
      if (isGone) port.postMessage({ kind: "gone", data: null });
      else if (overview) port.postMessage(overview);
    }
  }
  settleSoon();
}

setInterval(() => {
  const latest = Date.now() - SILENT_TAB_MS;
  for (const [port, tab] of tabs) {
    if (tab.isVisible && tab.heard < latest) {
      tabs.delete(port);
      settleSoon();
    }
  }
}, 10_000);

self.onconnect = (event) => {
  const port = event.ports[0];
  port.onmessage = (received) => hear(port, received.data);
};
