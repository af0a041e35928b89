// Copyright: netops.underlay contributors
// SPDX-License-Identifier: GPL-3.0-or-later
// The page: scope, views, theme, keyboard, printer. The scope is kept in
// the address, so that it can be sent to somebody.

const find = document.getElementById("find");
const views = [{key: "topology", label: "Topology"}, ...VIEWS.filter((view) => view.rows.length)];
let current = "topology";

// --- views ----------------------------------------------------------------------------------------

for (const view of views) {
  view.count = el("small");
  view.tab = el("button", {type: "button", role: "tab", id: `tab-${view.key}`, "aria-controls": view.key, onclick: () => pick(view.key)}, view.label, view.count);
  view.panel = el("section", {role: "tabpanel", id: view.key, "aria-labelledby": `tab-${view.key}`, tabindex: 0}, el("h2", {}, view.label));
  if (view.note) view.panel.append(el("p.note", {}, view.note));
  if (view.columns) view.panel.append((view.table = new Table(view.label, view.columns)).node);
  else view.panel.append(frame, legend());
  document.getElementById("tabs").append(view.tab);
  document.getElementById("panels").append(view.panel);
}

function legend() {
  return el("div.legend", {},
    el("span", {}, "A colour is a VLAN"),
    ...["error", "drift", "warning"].map((level) => el("span", {class: level}, mark(level), SAY[level])),
    el("span", {}, "dashed: detached, keeps its address"),
    el("span.hint", {}, "Click a box to zoom in. Esc goes back."));
}

function pick(key, scroll) {
  current = views.some((view) => view.key === key) ? key : "topology";
  for (const view of views) {
    const chosen = view.key === current;
    view.tab.setAttribute("aria-selected", String(chosen));
    view.tab.tabIndex = chosen ? 0 : -1;
    view.panel.hidden = !chosen;
    if (chosen) view.tab.scrollIntoView({block: "nearest", inline: "nearest"});
  }
  drawWho();
  drawCurrent();
  remember();
  if (scroll) document.getElementById("tabs").scrollIntoView();
}

function drawCurrent() {
  const view = views.find((each) => each.key === current);
  if (view.table) view.table.draw();
  else drawTopology();
}

document.getElementById("tabs").addEventListener("keydown", (event) => {
  const at = views.findIndex((view) => view.key === current);
  const to = {ArrowRight: at + 1, ArrowLeft: at - 1 + views.length, Home: 0, End: views.length - 1}[event.key];
  if (to === undefined) return;
  event.preventDefault();
  pick(views[to % views.length].key);
  views[to % views.length].tab.focus();
});

// --- what is looked at ----------------------------------------------------------------------------

/** Look at a host, a VLAN or words, beside what is looked at already; null takes one back. */
function look(change) {
  Object.assign(scope, change);
  if (change.words !== undefined) find.value = change.words;
  drawAll();
  remember();
}

function drawAll() {
  const chips = [];
  const chip = (text, without) => el("button.chip", {type: "button", title: "Show all again", onclick: () => { look(without); find.focus(); }}, text);
  if (scope.host !== null) chips.push(chip(doc.hosts[scope.host].name, {host: null}));
  if (scope.vlan !== null) chips.push(chip(coloured(el("span.vlan", {}, `VLAN ${scope.vlan}`), scope.vlan), {vlan: null}));
  document.getElementById("chips").replaceChildren(...chips);
  for (const view of views) {
    if (!view.table) continue;
    const rows = view.rows.filter(inScope);
    view.count.textContent = number(rows.length);
    view.table.show(rows);
  }
  drawVerdict();
  drawWho();
  drawCurrent();
}

function remember() {
  const query = new URLSearchParams();
  if (current !== "topology") query.set("view", current);
  if (scope.host !== null) query.set("host", doc.hosts[scope.host].name);
  if (scope.vlan !== null) query.set("vlan", scope.vlan);
  if (scope.words) query.set("find", scope.words);
  const hash = query.toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
}

function recall() {
  const query = new URLSearchParams(location.hash.slice(1));
  const host = doc.hosts.findIndex((row) => row.name === query.get("host"));
  const vlan = Number(query.get("vlan"));
  Object.assign(scope, {host: host < 0 ? null : host, vlan: vlanAt.has(vlan) ? vlan : null, words: query.get("find") || ""});
  find.value = scope.words;
  drawAll();
  pick(query.get("view") || "topology");
}

let waiting = 0;
find.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => look({words: find.value}), 120);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== find) {
    event.preventDefault();
    find.focus();
    find.select();
  } else if (event.key === "Escape") {
    clearTimeout(waiting);
    if (scope.words || find.value) look({words: ""});
    else if (scope.vlan !== null) look({vlan: null});
    else if (scope.host !== null) look({host: null});
  }
});

// --- light and dark -------------------------------------------------------------------------------

const THEMES = {"": "Theme: auto", light: "Theme: light", dark: "Theme: dark"};
const themeButton = document.getElementById("theme");

/** Where the browser keeps nothing for files, the choice lasts as long as the page. */
function kept(theme) {
  try {
    if (theme !== undefined) localStorage.setItem("underlay-theme", theme);
    return localStorage.getItem("underlay-theme") || "";
  } catch (refused) {
    return theme || "";
  }
}

function useTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  themeButton.textContent = THEMES[theme] || THEMES[""];
}

themeButton.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.theme || "") + 1) % names.length];
  kept(next);
  useTheme(next);
});

// --- the screen and the printer -------------------------------------------------------------------

let frameAsked = false;
function soon() {
  if (frameAsked) return;
  frameAsked = true;
  requestAnimationFrame(() => { frameAsked = false; const view = views.find((each) => each.key === current); if (view.table) view.table.draw(); });
}
addEventListener("scroll", soon, {passive: true});
let lastWidth = innerWidth;
addEventListener("resize", () => {
  soon();
  if (innerWidth !== lastWidth && current === "topology") drawTopology();
  lastWidth = innerWidth;
});
addEventListener("hashchange", recall);

function paper(whole) {
  for (const view of views) {
    if (whole) view.panel.hidden = false;
    if (view.table) Object.assign(view.table, {whole, shown: ""}).draw();
    else if (whole) drawTopology();
  }
  if (!whole) pick(current);
}
addEventListener("beforeprint", () => paper(true));
addEventListener("afterprint", () => paper(false));

document.getElementById("facts").textContent = facts();
useTheme(kept());
recall();
