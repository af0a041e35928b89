// Copyright: netops.underlay contributors
// SPDX-License-Identifier: GPL-3.0-or-later
// The topology: switch, trunk, sub-interface, network, endpoint. d3-hierarchy says where everything goes; this says
// what there is, and folds what would not fit: the rest is one box, "and 40 more", that opens.

const LEVELS = ["Switch", "Trunk", "Sub-interface", "Network", "Endpoint"];
const NAMES = ["", "host", "sub-interface", "network", "endpoint"];
const HEIGHT = 42;
const GAP_Y = 9;
const FEW = 4; // boxes below one that are shown at least, or none of them but those with findings
const opened = new Map(); // key of a box -> how many more of its children the reader asked for

// --- what there is --------------------------------------------------------------------------------

/** The networks and leases that the reader looks at, and the hosts that they are on. */
function topologyView() {
  const asked = !!scope.words.trim();
  const inVlan = (row) => scope.vlan === null || row.vlan_id === scope.vlan;
  const leases = new Set(asked ? doc.leases.filter((row) => inVlan(row) && hasWords(row)) : []);
  const networks = new Set(asked ? doc.networks.filter((row) => inVlan(row) && hasWords(row)) : []);
  const named = new Set(asked ? doc.hosts.filter(hasWords) : []);
  let hosts = scope.host !== null ? [scope.host] : scope.vlan !== null ? [...each(vlanAt.get(scope.vlan).hosts)] : doc.hosts.map((row) => row.at);
  if (asked) {
    const there = new Set([...named].map((row) => row.at));
    for (const row of networks) for (const host of each(row.hosts)) there.add(host);
    for (const row of leases) there.add(row.host);
    hosts = hosts.filter((host) => there.has(host));
  }
  return {
    hosts,
    has(host, at) {
      const row = doc.networks[at];
      if (!inVlan(row) || !has(row.hosts, host)) return false;
      return !asked || networks.has(row) || named.has(doc.hosts[host]) || this.leases(host, at).length > 0;
    },
    leases(host, at) {
      const all = (leasesOf.get(at) && leasesOf.get(at).get(host)) || [];
      return !asked || networks.has(doc.networks[at]) || named.has(doc.hosts[host]) ? all : all.filter((row) => leases.has(row));
    },
    links: (host) => (asked ? [] : doc.links.filter((row) => inVlan(row) && has(row.hosts, host))),
  };
}

/** The boxes of one host: its trunks with all that is attached to them; `kids` makes what is below when it is asked for. */
function trunksOf(host, view) {
  const trunks = new Map();
  const put = (trunk, parent, vlan, network) => {
    const parents = trunks.get(trunk) || trunks.set(trunk, new Map()).get(trunk);
    const sub = parents.get(parent) || parents.set(parent, {parent, vlan, networks: []}).get(parent);
    if (network !== null) sub.networks.push(network);
  };
  doc.networks.forEach((row, at) => view.has(host, at) && put(row.trunk, row.parent, row.vlan_id, at));
  for (const row of view.links(host)) put(row.parent, row.interface, row.vlan_id, null);
  const name = doc.hosts[host].name;
  const base = {level: 1, label: name, state: doc.hosts[host].state, act: () => look({host})};
  if (!trunks.size) return [{...base, key: `${host}`, detail: doc.hosts[host].read ? "nothing of ours" : "not read", kids: () => []}];
  return [...trunks].map(([trunk, parents], at) => ({
    ...base,
    state: at ? "ok" : base.state,
    key: `${host} ${trunk}`,
    inside: trunk === null,
    short: trunk === null ? "host only" : null,
    detail: trunk === null ? "no trunk, host only" : `${trunk}, ${tagsOf(parents)}`,
    kids: () => [...parents.values()].sort((one, other) => (one.vlan || 0) - (other.vlan || 0)).flatMap((sub) => subOf(host, trunk, sub, view)),
  }));
}

function tagsOf(parents) {
  const tagged = [...parents.values()].filter((sub) => sub.vlan !== null).length;
  return tagged ? many(tagged, "VLAN") : "untagged";
}

function subOf(host, trunk, sub, view) {
  const networks = () => sub.networks.map((at) => networkOf(host, at, view));
  const {vlan} = sub;
  // A network that is attached to the trunk itself has no box in the column of the sub-interfaces, but a line through it.
  if (vlan === null) return networks().map((network) => ({level: 2, through: true, key: `${network.key} -`, state: network.state, vlan, kids: () => [network]}));
  return [{
    level: 2, key: `${host} ${trunk} ${sub.parent}`, label: sub.parent, detail: `VLAN ${vlan}`, vlan,
    state: worstOf(host, "link", sub.parent), act: () => look({vlan}), kids: networks,
  }];
}

function networkOf(host, at, view) {
  const row = doc.networks[at];
  return {
    level: 3, key: `${host} network ${at}`, label: row.name, vlan: row.vlan_id,
    detail: `${firstOf(row.subnets.map((subnet) => subnet.subnet)) || "no subnet"}, ${kindOf(row)}`,
    short: firstOf(row.subnets.map((subnet) => subnet.subnet)),
    state: worstOf(host, "network", row.name),
    act: () => look(row.vlan_id === null ? {host, words: row.name} : {vlan: row.vlan_id}),
    kids: () => view.leases(host, at).map((lease) => endpointOf(lease)),
  };
}

function firstOf(texts) {
  return texts.length > 1 ? `${texts[0]} +${texts.length - 1}` : texts[0];
}

function endpointOf(lease) {
  const state = worse(worstOf(lease.host, "endpoint", `${lease.of}/${lease.name}`), worstOf(lease.host, "workload", lease.workload));
  return {
    level: 4, key: `${lease.host} lease ${lease.of}/${lease.name}`, label: lease.name, detail: addressesOf(lease) + (lease.alive ? "" : ", away"),
    short: firstOf(addressesOf(lease).split(", ")), vlan: lease.vlan_id, state, gone: !lease.alive, act: () => look(lease.vlan_id === null ? {host: lease.host, words: lease.name} : {vlan: lease.vlan_id}),
    kids: () => [],
  };
}

// --- what is shown of it --------------------------------------------------------------------------

/** The tree to draw: level by level, as many boxes as there is room for, what is wrong first. */
function foldedTree(view, room) {
  const root = {level: 0, key: "switch", label: "Switch", detail: many(view.hosts.length, "host"), state: "ok", shown: []};
  const members = membersOf(view);
  const ordered = [...view.hosts].sort((one, other) =>
    WORST[doc.hosts[other].state] - WORST[doc.hosts[one].state] || members.has(other) - members.has(one) || one - other);
  const count = Math.min(ordered.length, Math.min(room, 12) + (opened.get("switch") || 0));
  const kept = ordered.slice(0, count).sort((one, other) => one - other);
  root.shown = kept.flatMap((host) => trunksOf(host, view));
  if (ordered.length > count) root.shown.push(moreBox("switch", 1, ordered.length - count));
  let row = root.shown.filter((box) => !box.rest);
  for (let level = 2; level <= 4; level++) {
    const kids = row.map((box) => box.kids());
    const shares = shared(kids.map((list) => list.length), Math.max(room, row.length));
    row = row.flatMap((box, at) => {
      box.shown = firsts(box, kids[at], shares[at], level);
      return box.shown.filter((kid) => !kid.rest);
    });
  }
  return root;
}

/** The hosts with endpoints in the VLAN that is looked at: they come before those that only carry it. */
function membersOf(view) {
  if (scope.vlan === null) return new Set();
  return new Set(doc.leases.filter((row) => row.vlan_id === scope.vlan && view.has(row.host, row.network)).map((row) => row.host));
}

/** The children of a box that are shown: all, or as many as its share, those with findings before the others. */
function firsts(box, kids, share, level) {
  const wrong = kids.filter((kid) => kid.state !== "ok").length;
  const fair = share < Math.min(kids.length, FEW) ? Math.min(share, wrong) : share; // two of sixty tell nothing
  const count = Math.min(kids.length, fair + (opened.get(box.key) || 0));
  if (count >= kids.length) return kids;
  const order = kids.map((kid, at) => at).sort((one, other) => WORST[kids[other].state] - WORST[kids[one].state] || one - other);
  const kept = order.slice(0, count).sort((one, other) => one - other).map((at) => kids[at]);
  return [...kept, moreBox(box.key, level, kids.length - count, count === 0, kids.reduce((state, kid) => worse(state, kid.state), "ok"))];
}

function moreBox(of, level, rest, all, state) {
  return {
    level, rest, key: `${of} more`, state: (all && state) || "ok", label: all ? many(rest, NAMES[level]) : `and ${number(rest)} more`,
    act: () => { opened.set(of, (opened.get(of) || 0) + 20); drawTopology(); },
  };
}

/** Room for rows, shared so that who needs little gets it all. */
function shared(wants, room) {
  const shares = wants.map(() => 0);
  let open = wants.map((want, at) => at).filter((at) => wants[at] > 0);
  while (open.length && room >= open.length) {
    const step = Math.max(1, Math.floor(room / open.length));
    for (const at of open) {
      const given = Math.min(step, wants[at] - shares[at]);
      shares[at] += given;
      room -= given;
    }
    open = open.filter((at) => shares[at] < wants[at]);
  }
  return shares;
}

// --- drawing --------------------------------------------------------------------------------------

const frame = el("div.topology", {tabindex: -1});
const ruler = document.createElement("canvas").getContext("2d");

/** A text cut to a width in pixels. */
function cut(text, width, font) {
  ruler.font = `${font} ${getComputedStyle(document.body).fontFamily}`;
  if (ruler.measureText(text).width <= width) return text;
  let low = 0;
  let high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (ruler.measureText(text.slice(0, middle) + "…").width <= width) low = middle;
    else high = middle - 1;
  }
  return text.slice(0, low) + "…";
}

function drawTopology() {
  const room = frame.clientWidth || document.getElementById("panels").clientWidth;
  const narrow = room < 640;
  const view = topologyView();
  const focus = document.activeElement && document.activeElement.getAttribute("data-key");
  if (!view.hosts.length) return frame.replaceChildren(el("p.empty", {}, "No matches. Clear the filter with Esc."));
  const tree = layout.hierarchy(foldedTree(view, narrow ? 20 : 26), (box) => box.shown);
  const size = (narrow ? outline : columns)(tree, room - 2);
  const drawing = svg("svg", {viewBox: `0 0 ${size.width} ${size.height}`, width: size.width, height: size.height, role: "group",
    "aria-label": "Topology. Arrow keys move, Enter zooms in.", onkeydown: walk});
  drawing.append(...size.heads);
  for (const {source, target} of tree.links()) {
    if (!target.data.inside) drawing.append(coloured(svg("path.edge", {d: size.path(source, target)}), target.data.vlan));
  }
  tree.eachBefore((box) => { if (!box.data.through) drawing.append(boxOf(box)); });
  frame.replaceChildren(drawing);
  const boxes = [...topology.querySelectorAll("[role=button]")];
  const current = boxes.find((box) => box.getAttribute("data-key") === focus);
  (current || boxes[0]).setAttribute("tabindex", "0");
  if (current) current.focus();
  return undefined;
}

/** Where each box goes on a wide screen: a column for each level, as d3's tidy tree stacks them. */
function columns(tree, room) {
  const gap = room > 1000 ? 44 : 22;
  const first = room > 1000 ? 104 : 92;
  const width = Math.max(118, Math.min(240, Math.floor((room - 32 - first - 4 * gap) / 4)));
  const left = (level) => 16 + (level ? first + gap + (level - 1) * (width + gap) : 0);
  layout.tree().nodeSize([HEIGHT + GAP_Y, 1]).separation((one, other) => (one.parent === other.parent ? 1 : 1.25))(tree);
  const heights = tree.descendants().map((box) => box.x);
  const top = 42 - heights.reduce((one, other) => Math.min(one, other));
  tree.each((box) => Object.assign(box, {left: left(box.data.level), top: box.x + top, width: box.data.level ? width : first}));
  const levels = LEVELS.slice(0, 1 + tree.height);
  return {
    width: left(levels.length - 1) + (levels.length > 1 ? width : first) + 16,
    height: top + heights.reduce((one, other) => Math.max(one, other)) + HEIGHT + 16,
    heads: levels.map((name, level) => svg("text.head", {x: left(level), y: 24}, name)),
    path(source, target) {
      const [x1, y1] = [source.left + source.width, source.top + HEIGHT / 2];
      const [x2, y2] = [target.left, target.top + HEIGHT / 2];
      const half = (x1 + x2) / 2;
      return `M${x1} ${y1}C${half} ${y1} ${half} ${y2} ${x2} ${y2}` + (target.data.through ? `H${x2 + target.width}` : "");
    },
  };
}

/** Where each box goes on a phone: one below the other, what is attached to a box further in. */
function outline(tree, room) {
  const step = 18;
  let top = 12;
  tree.eachBefore((box) => {
    const depth = box.ancestors().filter((other) => !other.data.through).length - (box.data.through ? 0 : 1);
    Object.assign(box, {left: 12 + step * depth, top, width: room - 24 - step * depth});
    if (!box.data.through) top += HEIGHT + 7;
  });
  return {
    width: room,
    height: top + 6,
    heads: [],
    path(source, target) {
      if (target.data.through) return "";
      const from = source.data.through ? source.parent : source;
      return `M${from.left + 9} ${from.top + HEIGHT}V${target.top + HEIGHT / 2}H${target.left}`;
    },
  };
}

function boxOf(node) {
  const box = node.data;
  const {width} = node;
  const group = svg("g", {transform: `translate(${node.left} ${node.top})`, "data-key": box.key, "data-level": box.level});
  group.classList.add("box-" + box.level);
  if (box.level === 0) group.classList.add("switch");
  if (box.rest) group.classList.add("more");
  if (box.gone) group.classList.add("gone");
  if (box.state !== "ok") group.classList.add("is-" + box.state);
  const said = [LEVELS[box.level], box.label, box.detail, box.state === "ok" ? "" : SAY[box.state]].filter(Boolean).join(", ");
  group.append(svg("title", {}, said));
  if (box.act) {
    for (const [name, value] of Object.entries({role: "button", tabindex: "-1", "aria-label": said})) group.setAttribute(name, value);
    group.addEventListener("click", box.act);
  }
  const tall = box.rest ? 28 : HEIGHT;
  const lift = (HEIGHT - tall) / 2;
  group.append(svg("rect.box", {x: 0.5, y: lift + 0.5, width: width - 1, height: tall - 1, rx: 7}));
  const inner = width - 24 - (box.state === "ok" ? 0 : 20);
  if (box.vlan !== null && box.vlan !== undefined && !box.rest) {
    group.append(coloured(svg("rect.stripe", {x: 4, y: 6, width: 4, height: HEIGHT - 12, rx: 2}), box.vlan));
  }
  if (box.rest) {
    group.append(svg("text.t", {x: 14, y: lift + 18.5}, cut(box.label, inner, "500 12.5px")));
  } else {
    group.append(svg("text.t", {x: 15, y: 18}, cut(box.label, inner, "600 13px")));
    const whole = cut(box.detail, width - 24, "11.5px");
    group.append(svg("text.d", {x: 15, y: 33.5}, whole !== box.detail && box.short ? cut(box.short, width - 24, "11.5px") : whole));
  }
  if (box.state !== "ok") {
    const sign = mark(box.state);
    for (const [name, value] of Object.entries({x: width - 22, y: lift + (box.rest ? 6 : 7), width: 15, height: 15})) sign.setAttribute(name, value);
    group.append(sign);
  }
  return group;
}

/** Arrow keys: to the box before or after in the same column, to what it is attached to, to what is attached to it. */
function walk(event) {
  const boxes = [...frame.querySelectorAll("[role=button]")];
  const at = boxes.indexOf(document.activeElement);
  if (at < 0) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    boxes[at].dispatchEvent(new MouseEvent("click", {bubbles: true}));
    return;
  }
  const [, sideways, along] = {ArrowRight: [0, 1, 0], ArrowLeft: [0, -1, 0], ArrowDown: [0, 0, 1], ArrowUp: [0, 0, -1]}[event.key] || [];
  if (sideways === undefined) return;
  event.preventDefault();
  const place = (box) => { const {x, y, width, height} = box.getBoundingClientRect(); return {x: x + width / 2, y: y + height / 2}; };
  const here = place(boxes[at]);
  let best = null;
  for (const box of boxes) {
    const there = place(box);
    const ahead = sideways ? (there.x - here.x) * sideways : (there.y - here.y) * along;
    const aside = sideways ? Math.abs(there.y - here.y) : Math.abs(there.x - here.x) * 20;
    if (ahead > 8 && (best === null || ahead + aside < best.far)) best = {box, far: ahead + aside};
  }
  if (!best) return;
  boxes[at].setAttribute("tabindex", "-1");
  best.box.setAttribute("tabindex", "0");
  best.box.focus();
}
