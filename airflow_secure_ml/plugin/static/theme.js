// Takes light or dark from the Airflow page around this one; the system's choice otherwise.
// It runs before the first paint, so that a dark page never flashes white.
"use strict";

(() => {
  const own = document.documentElement;
  let around = null;
  try {
    if (window.parent !== window) around = window.parent.document.documentElement;
  } catch {
    around = null;
  }
  if (!around) return;
  const follow = () => {
    if (around.classList.contains("dark")) own.dataset.theme = "dark";
    else if (around.classList.contains("light")) own.dataset.theme = "light";
    else delete own.dataset.theme;
  };
  follow();
  new MutationObserver(follow).observe(around, { attributes: true, attributeFilter: ["class"] });
})();
