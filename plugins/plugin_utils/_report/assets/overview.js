// Copyright: netops.underlay contributors
// SPDX-License-Identifier: GPL-3.0-or-later
// The findings, and the members of the selected VLAN.

const FIRST = 6; // findings shown before the reader asks for more
const MEMBERS = innerWidth < 700 ? 10 : 24;

function facts() {
  const parts = [many(doc.hosts.length, "host"), many(vlans.length, "VLAN"), many(doc.networks.length, "network"), many(doc.leases.length, "lease")];
  return parts.join(" · ") + (doc.made ? ` · ${doc.made}` : "");
}

function drawVerdict() {
  const counts = {error: 0, drift: 0, warning: 0};
  const hit = new Set();
  for (const row of doc.findings) {
    counts[row.level] += countOf(row.hosts);
    for (const host of each(row.hosts)) hit.add(host);
  }
  const worst = doc.findings.length ? doc.findings[0].level : "ok";
  const said = [
    counts.error && many(counts.error, "error"), counts.drift && many(counts.drift, "drifted object"), counts.warning && many(counts.warning, "warning"),
  ].filter(Boolean);
  const hosts = doc.hosts.length;
  const text = said.length
    ? `${said.join(", ")} on ${hosts === 1 ? "this host" : `${number(hit.size)} of ${many(hosts, "host")}`}`
    : hosts === 1 ? "This host matches its declaration" : `All ${number(hosts)} hosts match their declaration`;
  const node = document.getElementById("verdict");
  node.replaceChildren(el("p.verdict", {}, mark(worst), text));
  const rows = doc.findings.filter(inScope);
  if (!rows.length) {
    const about = [scope.vlan !== null && `VLAN ${scope.vlan}`, scope.host !== null && doc.hosts[scope.host].name, scope.words].filter(Boolean);
    if (doc.findings.length) node.append(el("p.muted", {}, `No findings for ${about.join(", ")}.`));
    return;
  }
  const list = el("ul.findings");
  const show = (count) => {
    list.replaceChildren(...rows.slice(0, count).map(findingOf));
    if (rows.length > count) {
      list.append(el("li", {class: "rest"}, el("span"), el("button.link", {type: "button", onclick: () => show(Infinity)}, `Show all ${number(rows.length)}`)));
    }
  };
  show(FIRST);
  node.append(list);
}

function findingOf(row) {
  const only = (host) => el("button.link", {type: "button", onclick: () => look({host})}, doc.hosts[host].name);
  const sentence = el("span.what", {}, row.text);
  if (countOf(row.hosts) === 1) return el("li", {}, mark(row.level), el("span.where", {}, only(row.hosts[0][0])), sentence);
  const names = el("span.names", {hidden: true});
  const open = el("button.link", {type: "button", "aria-expanded": "false", onclick: () => {
    names.hidden = !names.hidden;
    open.setAttribute("aria-expanded", String(!names.hidden));
    if (!names.childElementCount) names.append(...[...each(row.hosts)].map(only));
  }}, many(countOf(row.hosts), "host"));
  return el("li", {}, mark(row.level), el("span.where", {}, open), el("span.what", {}, row.text, names));
}

/** A VLAN's networks, subnets, hosts and members. */
function drawWho() {
  const node = document.getElementById("who");
  node.hidden = scope.vlan === null;
  if (node.hidden) return;
  const vlan = vlanAt.get(scope.vlan);
  node.className = "";
  coloured(node, vlan.vlan_id);
  const networks = doc.networks.filter((row) => row.vlan_id === vlan.vlan_id);
  const gateways = [...new Set(networks.flatMap((row) => row.subnets.map((subnet) => subnet.gateway)).filter(Boolean))];
  const leases = doc.leases.filter((row) => row.vlan_id === vlan.vlan_id && inScope(row));
  const list = el("dl");
  const say = (name, value) => value && list.append(el("dt", {}, name), el("dd", {}, value));
  say("Networks", [...new Set(networks.map((row) => `${row.name} (${kindOf(row)})`))].join(", ") || "none");
  say("Subnets", vlan.subnets.join(", "));
  say("Gateways", gateways.join(", "));
  say("Hosts", hostsIn(vlan.hosts));
  say("Endpoints", number(leases.length) || "none");
  const six = leases.some((row) => addressesOf(row).length > 16);
  const members = el("ul.members", {class: six ? "six" : null}, ...leases.slice(0, MEMBERS).map((row) =>
    el("li", {title: `${row.workload || "the host"}, ${row.interface}`},
      el("span.mono.cut", {}, addressesOf(row)), el("span.cut", {}, `${row.name} on ${doc.hosts[row.host].name}${row.alive ? "" : ", away"}`)),
  ));
  members.classList.add("members");
  node.replaceChildren(el("h2", {}, `Who is in VLAN ${vlan.vlan_id}`), list);
  if (current !== "topology") return; // the tables have them
  if (leases.length) node.append(members);
  if (leases.length > MEMBERS) {
    node.append(el("p", {}, el("button.link", {type: "button", onclick: () => pick("leases", true)}, `All ${number(leases.length)} in the leases`)));
  }
}
