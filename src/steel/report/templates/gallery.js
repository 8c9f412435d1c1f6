(() => {
  "use strict";
  const PAGE = 24; // cards made at once: a picture is decoded only when its card is made
  const byId = (name) => document.getElementById(`gallery-${name}`);
  const data = JSON.parse(byId("data").textContent);
  const root = document.getElementById("gallery");
  const [form, list, more, dialog, enlarged] = ["filters", "cards", "more", "dialog", "enlarged"].map(byId);
  const entries = data.entries.map((entry) => ({
    ...entry, ...data.strips[entry.strip], area: entry.true_px || entry.shown_px,
  }));
  let found = entries; // those that pass the filters, in order
  let place = 0; // in them, of the one that is enlarged
  let isHot = false; // whether probabilities lie over what is enlarged

  /** An element, or one of SVG, with attributes and children. */
  function make(tag, attributes = {}, ...children) {
    const isSvg = tag === "svg" || tag === "path";
    const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const webp = (text) => `data:image/webp;base64,${text}`;
  const inWords = (entry) => `class ${entry.class}, Dice ${entry.dice.toFixed(2)}, ${entry.kinds.join(", ")}`;

  /** The strip with all its outlines. */
  function drawing(entry) {
    const svg = make("svg", {
      viewBox: `0 0 ${data.width} ${data.height}`, preserveAspectRatio: "none", "aria-hidden": "true",
    });
    for (const kind of ["truth", "shown"]) {
      entry[kind].forEach((path, k) => path && svg.append(make("path", { class: `${kind} c${k + 1}`, d: path })));
    }
    const alt = `strip ${entry.id}, ${inWords(entry)}`;
    return make("span", { class: "strip" }, make("img", { src: webp(entry.image), alt }), svg);
  }

  /** A button that lays the probabilities of the entry's class over a drawing, and the scale of their colours. */
  function heatButton(entry, strip) {
    const name = `probabilities of class ${entry.class} on ${entry.id}`;
    const button = make("button", { type: "button", "aria-pressed": "false", "aria-label": name }, "probabilities");
    button.addEventListener("click", () => {
      const old = strip.querySelector(".heat");
      if (old) old.remove();
      else strip.lastChild.before(make("img", { class: "heat", src: webp(entry.prob), alt: name }));
      button.setAttribute("aria-pressed", String(!old));
    });
    const ramp = make("i", { class: "ramp" }, make("i", { class: "heat" }));
    return [make("span", { class: "scale soft" }, "0", ramp, "1"), button];
  }

  function about(entry, strip) {
    const soft = (text) => make("span", { class: "soft" }, text);
    const px = (n) => n.toLocaleString("en");
    return make(
      "div", { class: "about" },
      make("b", {}, entry.id),
      make("span", {}, make("i", { class: `swatch c${entry.class}` }), inWords(entry)),
      soft(`true ${px(entry.true_px)} px, shown ${px(entry.shown_px)} px`),
      make(
        "span", { class: "row" },
        soft(`gate ${entry.gate.toFixed(2)}`),
        soft(`${data.fold_name} ${entry.fold}`),
        ...heatButton(entry, strip),
      ),
    );
  }

  function card(entry, i) {
    const strip = drawing(entry);
    const open = make("button", { type: "button", class: "open", title: "enlarge" }, strip);
    open.addEventListener("click", () => { isHot = false; enlarge(i); dialog.showModal(); centre(); });
    return make("li", {}, open, about(entry, strip));
  }

  /** Fill the dialog with the entry at a place of those found, which follow each other in a ring. */
  function enlarge(at) {
    place = (at + found.length) % found.length;
    const entry = found[place];
    const strip = drawing(entry);
    const wide = make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": `strip ${entry.id}` }, strip);
    const words = about(entry, strip);
    const heat = words.querySelector("button");
    if (isHot) heat.click();
    heat.addEventListener("click", () => { isHot = !isHot; });
    enlarged.replaceChildren(wide, words);
    byId("place").textContent = `${place + 1} of ${found.length}`;
  }

  /** Where the strip is wider than the dialog, as on a phone, bring the entry's class into view. */
  function centre() {
    const wide = enlarged.firstElementChild;
    const outline = wide.querySelector(`path.c${found[place].class}`);
    if (!outline) return;
    const box = outline.getBBox();
    wide.scrollLeft = (box.x + box.width / 2) / data.width * wide.scrollWidth - wide.clientWidth / 2;
  }

  function step(by) {
    enlarge(place + by);
    centre();
  }

  /** The arrow keys go on, but where they scroll the strip. */
  function onKey(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const wide = enlarged.firstElementChild;
    const scrolls = document.activeElement === wide && wide.scrollWidth > wide.clientWidth;
    if (!by || scrolls || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    step(by);
  }

  /** Back in the list, at the card of what was enlarged last. */
  function onClose() {
    while (list.children.length <= place) append();
    list.children[place].querySelector("button.open").focus();
  }

  /** Whether an entry passes the filters, the values of the form. */
  function passes(entry, wanted) {
    const within = (value, low, high) => (low === "" || value >= +low) && (high === "" || value <= +high);
    return (!wanted.kind || entry.kinds.includes(wanted.kind))
      && (!wanted.class || entry.class === +wanted.class)
      && (!wanted.fold || entry.fold === +wanted.fold)
      && within(entry.dice, wanted.dice_from, wanted.dice_to)
      && within(entry.area, wanted.area_from, wanted.area_to)
      && entry.id.toLowerCase().includes(wanted.id.trim().toLowerCase());
  }

  function update() {
    const wanted = Object.fromEntries(new FormData(form));
    found = entries.filter((entry) => passes(entry, wanted));
    const key = wanted.sort;
    if (key) found.sort((a, b) => wanted.order * (a[key] < b[key] ? -1 : a[key] > b[key] ? 1 : 0));
    else if (wanted.order === "-1") found.reverse();
    list.replaceChildren();
    append();
  }

  /** Make the next cards; the first of them. */
  function append() {
    const start = list.children.length;
    list.append(...found.slice(start, start + PAGE).map((entry, i) => card(entry, start + i)));
    const n = list.children.length;
    byId("count").textContent = found.length ? `${n} of ${found.length} shown` : "none of them passes the filters";
    more.hidden = n === found.length;
    return list.children[start];
  }

  more.addEventListener("click", () => append().querySelector("button").focus());
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  dialog.addEventListener("keydown", onKey);
  dialog.addEventListener("close", onClose);
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update)); // after the values have changed
  for (const kind of ["truth", "shown"]) {
    const boxes = root.querySelectorAll(`input[name=${kind}]`); // in the bar, and in the dialog that covers it
    boxes.forEach((box) => box.addEventListener("change", () => {
      root.classList.toggle(`no-${kind}`, !box.checked);
      boxes.forEach((other) => { other.checked = box.checked; });
    }));
  }
  update();
})();
