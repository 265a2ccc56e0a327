// Sets the chosen theme before the first paint. A classic script: it must run before the body.
try {
  const chosen = localStorage.getItem("kline_trio.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden: the system's theme is used.
}
