"use strict";
(() => {
  const root = document.documentElement;
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll("[data-chart]")];
  const drawn = new Map(); // place to what vegaEmbed gave
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let chosen = null; // the reader's own choice, as long as the page is open

  const isDark = () => (chosen ?? (system.matches ? "dark" : "light")) === "dark";

  function colours() {
    const style = getComputedStyle(root);
    const [ink, soft, line] = ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
    const words = { labelColor: ink, titleColor: soft };
    return {
      axis: { ...words, gridColor: line, domainColor: soft, tickColor: soft },
      legend: words, header: words, title: { color: ink }, text: { color: ink }, style: { cell: { stroke: null } },
    };
  }

  async function draw(place) {
    const old = drawn.get(place);
    drawn.set(place, null); // begun
    const found = await vegaEmbed(place, specs[place.dataset.chart], {
      actions: false, renderer: "svg", config: colours(), tooltip: { theme: isDark() ? "dark" : "light" },
    });
    if (old) old.finalize();
    drawn.set(place, found);
  }

  function dress() {
    root.dataset.theme = isDark() ? "dark" : "light";
    button.setAttribute("aria-pressed", String(isDark()));
    for (const place of drawn.keys()) draw(place);
  }

  button.addEventListener("click", () => { chosen = isDark() ? "light" : "dark"; dress(); });
  system.addEventListener("change", dress);
  dress();
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !drawn.has(target)) draw(target);
    }
  }, { rootMargin: "600px" });
  places.forEach((place) => seen.observe(place));
})();
