// Brings the parts together: the address chooses a view, the stream keeps it new.

import { get } from "./api.js";
import { CalendarView } from "./calendar.js";
import { RatesView } from "./charts.js";
import { ConnectionsView } from "./connections.js";
import { DayView } from "./day.js";
import { byId, loadStyle, put } from "./dom.js";
import { EventsView } from "./events.js";
import { href, onView, startRouter } from "./router.js";
import { StatusView } from "./status.js";
import { onStream, startStream, watchSeries } from "./stream.js";
import { startTheme } from "./theme.js";

const status = new StatusView();
const calendar = new CalendarView();
const day = new DayView();
const rates = new RatesView();
const connections = new ConnectionsView();
const events = new EventsView(byId("events"));
let series = null; // The view of a series, loaded when one is first opened.
let overview = null;
let entered = null; // The series that is shown; "" for the overview.
let home = "./"; // The overview as it was when it was left.
let focused = null; // What had the focus when the overview was left.

function update(next) {
  // Another version serves another page: a screen that nobody touches gets it, too.
  if (overview && overview.version !== next.version) location.reload();
  overview = next;
  status.update(next);
  rates.show(next.is_live);
  connections.update(next);
  if (!byId("overview").hidden) {
    calendar.update(next);
    events.update(next.events);
  }
  series?.update(next);
}

async function enter(query) {
  const key = query.get("series");
  const view = key ?? "";
  const isFirst = entered === null;
  const isOther = entered !== view;
  if (isOther && entered === "") focused = document.activeElement;
  entered = view;
  document.body.classList.toggle("shows-series", key !== null);
  byId("overview").hidden = key !== null;
  byId("series").hidden = key === null;
  watchSeries(key === null ? [] : [key]);
  if (isOther && !isFirst) {
    // The link that was followed is hidden now: readers begin at the title, or where they were.
    const back =
      key === null && focused?.isConnected && focused !== document.body ? focused : byId("title");
    back.focus({ preventScroll: true });
  }
  if (key === null) {
    home = href(query);
    series?.leave();
    status.name("");
    put(byId("title"), "kline_trio: what is recorded");
    calendar.show(query);
    day.show(query);
    if (overview) update(overview);
  } else {
    const [{ SeriesView }] = await Promise.all([import("./series.js"), loadStyle("series.css")]);
    if (entered !== view) return;
    series ??= new SeriesView(byId("series"), status);
    series.backTo(home);
    series.show(query, overview);
  }
}

async function refresh() {
  try {
    update(await get("overview"));
    return true;
  } catch {
    status.gone();
    return false;
  }
}

onStream("overview", update);
onStream("sample", (sample) => rates.add(sample));
onStream("candle", (candle) => series?.add(candle));
onStream("gone", () => {
  status.gone();
  refresh(); // Perhaps only the token is not valid any more: then the server asks for it.
});
onStream("back", () => {
  calendar.refresh();
  rates.refresh();
});
document.addEventListener("visibilitychange", () => {
  // A hidden tab hears nothing: it has missed a part of the lines.
  if (document.visibilityState === "visible" && overview?.is_live) rates.refresh();
});

startTheme();
onView(enter);
startRouter();
refresh().then(startStream);
