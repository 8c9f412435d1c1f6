"use strict";
(() => {
  const root = document.documentElement;
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll("[data-chart]")];
  const drawn = new Map(); // place to the promise of what vegaEmbed gives
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let chosen = null; // the reader's own choice, as long as the page is open
  let printing = false; // on paper all is light, drawn and open

  const isDark = () => !printing && (chosen ?? (system.matches ? "dark" : "light")) === "dark";

  function colours() {
    const style = getComputedStyle(root);
    const [ink, soft, line] = ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
    const words = { labelColor: ink, titleColor: soft };
    return {
      axis: { ...words, gridColor: line, domainColor: soft, tickColor: soft },
      legend: words, header: words, title: { color: ink }, text: { color: ink }, style: { cell: { stroke: null } },
    };
  }

  function draw(place) {
    const old = drawn.get(place);
    const made = vegaEmbed(place, specs[place.dataset.chart], {
      actions: false, renderer: "svg", config: colours(), tooltip: { theme: isDark() ? "dark" : "light" },
    });
    drawn.set(place, made);
    if (old) old.then((one) => one.finalize());
    return made;
  }

  function dress() {
    root.dataset.theme = isDark() ? "dark" : "light";
    button.textContent = `Switch to ${isDark() ? "light" : "dark"}`;
    for (const place of drawn.keys()) draw(place);
  }

  button.addEventListener("click", () => { chosen = isDark() ? "light" : "dark"; dress(); });
  system.addEventListener("change", dress);
  button.hidden = false;
  dress();

  const open = (folds) => folds.forEach((fold) => { fold.open = true; });
  const aim = () => open(document.querySelectorAll(":target .fold"));
  window.addEventListener("hashchange", aim);
  aim();

  window.addEventListener("beforeprint", () => {
    printing = true;
    open(document.querySelectorAll(".fold"));
    dress();
    for (const place of places) if (!drawn.has(place)) draw(place);
  });
  window.addEventListener("afterprint", () => { printing = false; dress(); });

  for (const values of document.querySelectorAll(".values")) {
    const place = values.previousElementSibling;
    values.addEventListener("toggle", async () => {
      const { view } = await (drawn.get(place) ?? draw(place));
      const found = valuesOf(specs[place.dataset.chart], view.locale().format);
      values.append(...(found.length ? found : ["There are none."]));
    }, { once: true });
  }

  // What scrolls can be reached by keyboard; what fits is no stop on the way.
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
  });
  document.querySelectorAll(".numbers .scroll").forEach((place) => sizes.observe(place));

  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !drawn.has(target)) draw(target);
    }
  }, { rootMargin: "600px" });
  places.forEach((place) => seen.observe(place));
})();
