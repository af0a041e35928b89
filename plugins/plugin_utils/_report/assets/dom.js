// Copyright: netops.underlay contributors
// SPDX-License-Identifier: GPL-3.0-or-later
// Elements and words. Text is only ever set as text: nothing on this page is parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `el("td.num", {title: "x"}, "text", otherElement)`. Handlers are `onclick` and the like. */
function el(what, options, ...inside) {
  return fill(document.createElement(what.split(".")[0]), what, options, inside);
}

function svg(what, options, ...inside) {
  return fill(document.createElementNS(SVG, what.split(".")[0]), what, options, inside);
}

function fill(node, what, options, inside) {
  const classes = what.split(".").slice(1);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(options || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...inside.filter((part) => part !== null && part !== undefined));
  return node;
}

/** Neighbouring VLANs get colours far apart, from yellow-green to pink: red and amber are kept for what is wrong. */
function coloured(node, vlan) {
  const none = vlan === null || vlan === undefined;
  node.classList.add(none ? "n" : "v");
  if (!none) node.style.setProperty("--h", (105 + ((vlan * 0.618034) % 1) * 240).toFixed(1));
  return node;
}

/** The sign of a state: by its shape as well as by its colour. */
function mark(level) {
  const node = svg("svg." + level, {viewBox: "0 0 16 16", role: "img", "aria-label": SAY[level]});
  node.classList.add("mark");
  node.append(...shapes(level));
  return node;
}

const SAY = {error: "error", drift: "drift", warning: "warning", ok: "as declared"};

function shapes(level) {
  const line = {stroke: "var(--sheet)", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round", fill: "none"};
  if (level === "ok") {
    return [svg("circle", {cx: 8, cy: 8, r: 7, fill: "currentColor"}), svg("path", {d: "M5 8.3l2.1 2.1L11 6.2", ...line})];
  }
  if (level === "error") {
    return [svg("circle", {cx: 8, cy: 8, r: 7, fill: "currentColor"}), svg("path", {d: "M5.7 5.7l4.6 4.6M10.3 5.7l-4.6 4.6", ...line})];
  }
  const body = level === "drift" ? "M8 1.2L15.2 14.2H0.8Z" : "M8 0.8L15.2 8L8 15.2L0.8 8Z";
  const shift = level === "drift" ? 1.4 : 0;
  return [
    svg("path", {d: body, fill: "currentColor", stroke: "currentColor", "stroke-linejoin": "round"}),
    svg("path", {d: `M8 ${4.6 + shift}v3.4M8 ${10.7 + shift}v.1`, ...line}),
  ];
}

function number(value) {
  return value.toLocaleString("en");
}

/** `3 hosts`, `1 host`. */
function many(count, one, several) {
  return `${number(count)} ${count === 1 ? one : several || one + "s"}`;
}
