// One page, many views: the query says which. Every view has an address, and the back button works.

const listeners = new Set();

/** Run a function with the parameters of each view that is entered. */
export function onView(run) {
  listeners.add(run);
}

export function parameters() {
  return new URLSearchParams(location.search);
}

/** Return the query that differs from the present one by some parameters: null removes one, a list repeats it. */
export function changed(changes) {
  const query = parameters();
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") query.append(name, String(one));
    }
  }
  return query;
}

/** Return the address of a series, at a span if one is given. */
export function seriesAddress(key, from = null, to = null) {
  const query = new URLSearchParams({ series: key });
  if (from !== null) query.set("from", String(from));
  if (to !== null) query.set("to", String(to));
  return href(query);
}

export function href(query) {
  const text = query.toString();
  return text ? `./?${text}` : "./";
}

/** Enter a view. With `replace` the back button skips the present one. */
export function go(query, { replace = false, quiet = false } = {}) {
  const target = href(query);
  if (replace) history.replaceState(history.state, "", target);
  else {
    history.replaceState({ top: scrollY }, "");
    history.pushState({ top: 0 }, "", target);
  }
  if (!quiet) tell(replace ? null : 0);
}

/** Follow links between views without loading the page again. */
export function startRouter() {
  history.scrollRestoration = "manual";
  addEventListener("popstate", () => tell(history.state?.top ?? 0));
  document.addEventListener("click", (event) => {
    if (
      event.defaultPrevented ||
      event.button ||
      event.metaKey ||
      event.ctrlKey ||
      event.shiftKey ||
      event.altKey
    )
      return;
    const link = event.target.closest?.("a[data-view]");
    if (!link) return;
    event.preventDefault();
    go(new URL(link.href).searchParams);
  });
  tell(null);
}

function tell(top) {
  const query = parameters();
  for (const run of listeners) run(query);
  if (top !== null) requestAnimationFrame(() => scrollTo(0, top));
}
