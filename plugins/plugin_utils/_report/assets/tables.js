// Copyright: netops.underlay contributors
// SPDX-License-Identifier: GPL-3.0-or-later
// The views: what each shows, in which columns. A view without data does not exist.

// --- cells ----------------------------------------------------------------------------------------

function vlanCell(row) {
  if (row.vlan_id === null || row.vlan_id === undefined) return el("span.away", {}, "none");
  const id = row.vlan_id;
  return coloured(el("button.vlan", {type: "button", title: `Who is in VLAN ${id}`, onclick: () => look({vlan: id})}, String(id)), id);
}

function hostsCell(row) {
  if (countOf(row.hosts) > 1) return hostsIn(row.hosts);
  const at = row.hosts[0][0];
  return el("button.host", {type: "button", title: `Only ${doc.hosts[at].name}`, onclick: () => look({host: at})}, doc.hosts[at].name);
}

function stateCell(state) {
  return [mark(state), SAY[state]];
}

function resultCell(row) {
  if (row.ok === null) return el("span.away", {}, "not probed");
  return [mark(row.ok ? "ok" : "error"), row.ok ? "passed" : "failed"];
}

const VLAN = {label: "VLAN", width: 84, narrow: 62, value: (row) => row.vlan_id, cell: vlanCell};
const HOSTS = {label: "Hosts", width: 150, css: "p2", value: (row) => (countOf(row.hosts) > 1 ? hostsIn(row.hosts) : doc.hosts[row.hosts[0][0]].name), cell: hostsCell};

function networkNames(row) {
  return row.networks.map((at) => doc.networks[at].name).join(", ");
}

function kindOf(network) {
  const flag = network.flag && network.flag !== "bridge" ? ` ${network.flag}` : "";
  return `${network.driver} ${network.mode}${flag}`;
}

function subnetsOf(network) {
  return network.subnets.map((row) => row.subnet).join(", ");
}

function gatewaysOf(network) {
  return network.subnets.map((row) => row.gateway || "none").join(", ");
}

function percent(pool) {
  return pool.size ? (100 * pool.used) / pool.size : 0; // a /64 is never used up
}

function useCell(pool) {
  const share = percent(pool);
  const bar = el("i");
  bar.style.setProperty("width", `${pool.used ? Math.max(2, share) : 0}%`);
  return el("span.use", {role: "img", class: share >= 100 ? "error" : share >= 90 ? "warning" : null,
    "aria-label": `${Math.round(share)} percent held`}, bar);
}

function held(lease) {
  return [...lease.leased_addresses, ...lease.addresses, ...lease.slaac_addresses];
}

function addressesOf(lease) {
  return held(lease).map((text) => text.split("/")[0]).join(", ");
}

// --- views ----------------------------------------------------------------------------------------

const VIEWS = [
  {
    key: "hosts", label: "Hosts", rows: doc.hosts,
    columns: [
      {label: "Host", value: (row) => row.name, title: (row) => row.name,
        cell: (row) => [mark(row.state), el("button.host", {type: "button", onclick: () => look({host: row.at})}, row.name)],
        sub: (row) => (row.read ? `${many(row.networks, "network")}, ${many(row.leases, "lease")}` : "not read")},
      {label: "State", width: 130, narrow: 100, value: (row) => WORST[row.state], cell: (row) => (row.read ? SAY[row.state] : "not read")},
      {label: "Networks", width: 100, css: "num p2", value: (row) => row.networks, cell: (row) => number(row.networks)},
      {label: "Leases", width: 90, css: "num p2", value: (row) => row.leases, cell: (row) => number(row.leases)},
      {label: "Last change", width: 210, css: "p2 num", value: (row) => (row.changed ? row.changed.time : null),
        cell: (row) => (row.changed ? row.changed.time.replace("T", " ").replace("Z", " UTC") : "none")},
      {label: "By", width: 190, css: "p3", value: (row) => (row.changed ? row.changed.who : null)},
    ],
  },
  {
    key: "vlans", label: "VLANs", rows: vlans,
    columns: [
      {...VLAN, width: 92, narrow: 72},
      {label: "Networks", value: (row) => row.names.join(", "), sub: (row) => `${row.subnets.join(", ")}`},
      {label: "Subnets", css: "mono p2", value: (row) => addressKey(row.subnets[0]), cell: (row) => row.subnets.join(", ")},
      {label: "Hosts", width: 140, css: "p2", value: (row) => countOf(row.hosts), cell: hostsCell},
      {label: "Leases", width: 80, css: "num", value: (row) => row.leases, cell: (row) => number(row.leases)},
      {label: "State", width: 130, css: "p3", value: (row) => WORST[row.state], cell: (row) => stateCell(row.state)},
    ],
  },
  {
    key: "networks", label: "Networks", rows: doc.networks,
    columns: [
      {label: "Network", value: (row) => row.name, sub: (row) => `${kindOf(row)} on ${row.parent}; ${subnetsOf(row)}`},
      VLAN,
      {label: "Driver", width: 130, css: "p2", value: kindOf},
      {label: "Parent", width: 120, css: "mono p2", value: (row) => row.parent},
      {label: "Subnets", width: 230, css: "mono p2", value: (row) => addressKey(subnetsOf(row).split(",")[0]), cell: subnetsOf},
      {label: "Gateway", width: 150, css: "mono p3", value: (row) => addressKey(gatewaysOf(row).split(",")[0]), cell: gatewaysOf},
      {label: "Owner", width: 130, css: "p3", value: (row) => row.owner},
      {...HOSTS, width: 130},
    ],
  },
  {
    key: "pools", label: "Pools", rows: doc.pools,
    note: "The number of addresses of each pool that are held. Hosts in one VLAN share its pools; any other network has a pool on each host, and the fullest is shown.",
    columns: [
      {label: "Pool", css: "mono", value: (row) => addressKey(row.pool), cell: (row) => row.pool, title: (row) => row.pool, sub: (row) => networkNames(row)},
      VLAN,
      {label: "Networks", css: "p2", value: networkNames},
      {label: "Use", width: 150, value: percent, cell: useCell},
      {label: "Held", width: 74, css: "num p2", value: (row) => row.used, cell: (row) => number(row.used)},
      {label: "Of", width: 90, css: "num p2", value: (row) => row.size, cell: (row) => (row.size === null ? (/[-,]/.test(row.pool) ? "many" : `a /${row.pool.split("/")[1]}`) : number(row.size))},
      {label: "Reserved", width: 90, css: "num p3", value: (row) => row.reserved, cell: (row) => (row.reserved === null ? "" : number(row.reserved))},
      {label: "Hosts", width: 140, css: "p3", value: (row) => countOf(row.hosts),
        cell: (row) => (row.fullest === null || countOf(row.hosts) === 1 ? hostsCell(row) : `fullest: ${doc.hosts[row.fullest].name}`)},
    ],
  },
  {
    key: "leases", label: "Leases", rows: doc.leases,
    columns: [
      {label: "Address", width: 180, narrow: 132, css: "mono", value: (row) => addressKey(held(row)[0]), cell: addressesOf, title: addressesOf, sub: (row) => doc.hosts[row.host].name},
      {label: "Held by", value: (row) => row.name, title: (row) => row.name,
        cell: (row) => (row.alive ? el("span", {}, row.name) : el("span.away", {}, `${row.name} (away)`)), sub: (row) => `${row.of}, ${row.workload || "host"}`},
      {...VLAN, width: 80},
      {label: "Network", css: "p2", value: (row) => row.of},
      {label: "Workload", css: "p2", value: (row) => row.workload || "the host"},
      {label: "Interface", width: 90, css: "mono p3", value: (row) => row.interface},
      {label: "MAC", width: 160, css: "mono p3", value: (row) => row.mac || ""},
      {...HOSTS, label: "Host"},
    ],
    note: "A detached endpoint keeps its address until it is made absent.",
  },
  {
    key: "links", label: "Sub-interfaces", rows: doc.links, note: "Declared sub-interfaces. Those created for a network are listed with that network.",
    columns: [
      {label: "Name", css: "mono", value: (row) => row.name, sub: (row) => `on ${row.parent}`},
      VLAN,
      {label: "On", css: "mono p2", value: (row) => row.parent},
      {label: "Protocol", width: 100, css: "p2", value: (row) => row.protocol},
      {label: "MTU", width: 80, css: "num p2", value: (row) => row.mtu},
      {label: "Addresses", css: "mono p3", value: (row) => row.addresses.join(", ") || "none"},
      {label: "Owner", width: 130, css: "p3", value: (row) => row.owner},
      HOSTS,
    ],
  },
  {
    key: "routes", label: "Routes", rows: doc.routes,
    columns: [
      {label: "Prefix", css: "mono", value: (row) => addressKey(row.prefix), cell: (row) => row.prefix, title: (row) => row.prefix, sub: (row) => row.set},
      {label: "Next hop", css: "mono", value: (row) => [row.type === "unicast" ? "" : row.type, row.via, row.dev].filter(Boolean).join(" ")},
      {label: "Set", css: "p2", value: (row) => row.set},
      {label: "Metric", width: 80, css: "num p2", value: (row) => row.metric},
      {label: "Table", width: 90, css: "p3", value: (row) => row.vrf || row.table || "main"},
      HOSTS,
    ],
  },
  {
    key: "plan", label: "Plan", rows: doc.plan, note: "The changes that a run would make, as listed in its result.",
    columns: [
      {label: "Verb", width: 90, value: (row) => row.verb},
      {label: "Change", value: (row) => row.text, sub: (row) => hostsIn(row.hosts)},
      HOSTS,
    ],
  },
  {
    key: "checks", label: "Checks", rows: doc.checks, note: "What was probed on the network, and what answered.",
    columns: [
      {label: "Result", width: 120, narrow: 96, value: (row) => (row.ok === null ? 1 : row.ok ? 2 : 0), cell: resultCell},
      {label: "Observation", value: (row) => row.text, sub: (row) => hostsIn(row.hosts)},
      {label: "Check", width: 120, css: "p2", value: (row) => row.kind},
      {...VLAN, css: "p2"},
      HOSTS,
    ],
  },
];
