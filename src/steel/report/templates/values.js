"use strict";
// What charts tell under the pointer, as tables: of every set of marks its values, under the names that a tooltip has.
const valuesOf = (() => {
  const MOST_ROWS = 100;

  function parts(node, above) {
    const here = { data: node.data ?? above.data, tooltip: node.encoding?.tooltip ?? above.tooltip };
    const inner = [...(node.layer ?? node.concat ?? node.hconcat ?? node.vconcat ?? []), ...(node.spec ? [node.spec] : [])];
    return inner.length ? inner.flatMap((one) => parts(one, here)) : [here];
  }

  // Marks of the same data may tell the same, or less: once is enough.
  function tellers(spec) {
    const found = parts(spec, {})
      .map(({ data, tooltip }) => ({
        rows: data?.values ?? spec.datasets?.[data?.name] ?? [],
        fields: [tooltip ?? []].flat().filter((one) => one.field),
      }))
      .filter(({ rows, fields }) => rows.length && fields.length);
    const holds = (a, b) => a.rows === b.rows && b.fields.every((one) => a.fields.some(({ field }) => field === one.field));
    return found.filter((b, i) => !found.some((a, j) => holds(a, b) && (!holds(b, a) || j < i) && i !== j));
  }

  function row(tag, texts) {
    const made = document.createElement("tr");
    const scope = tag === "th" ? { scope: "col" } : {};
    made.append(...texts.map((text) => Object.assign(document.createElement(tag), { textContent: text, ...scope })));
    return made;
  }

  function table({ rows, fields }, format) {
    const cell = (value, how) =>
      value === null || value === undefined ? "–" : how && typeof value === "number" ? format(how)(value) : String(value);
    const n = Math.min(rows.length, MOST_ROWS);
    const made = document.createElement("table");
    made.createTHead().append(row("th", fields.map((one) => one.title ?? one.field)));
    const body = made.createTBody();
    for (let i = 0; i < n; i++) {
      const one = rows[Math.floor((i * rows.length) / n)];
      body.append(row("td", fields.map((told) => cell(one[told.field], told.format))));
    }
    const about = { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Values" };
    const place = Object.assign(document.createElement("div"), about);
    place.append(made);
    if (n === rows.length) return [place];
    return [Object.assign(document.createElement("p"), { textContent: `${n} of ${rows.length}, evenly spaced` }), place];
  }

  return (spec, format) => tellers(spec).flatMap((one) => table(one, format));
})();
