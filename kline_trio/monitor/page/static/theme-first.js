// Sets the theme before the first paint. A classic script: it must run before the body.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("kline_trio.theme");
  } catch {
    // Storage may be forbidden: the system's theme is used.
  }
  const isChosen = chosen === "light" || chosen === "dark";
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.chosen = isChosen ? chosen : "auto";
  document.documentElement.dataset.theme = isChosen ? chosen : isDark ? "dark" : "light";
}
