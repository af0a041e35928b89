// Copyright: netops.underlay contributors
// SPDX-License-Identifier: GPL-3.0-or-later
// The report's data, what is found in it, and what the reader is looking at.

const doc = JSON.parse(document.getElementById("data").textContent);
const byName = new Intl.Collator("en", {numeric: true}).compare;
const WORST = {error: 3, drift: 2, warning: 1, ok: 0};

/** What the reader looks at: everything, or a host, a VLAN, and what has these words. */
const scope = {host: null, vlan: null, words: ""};

// --- sets of hosts: [first, last] pairs of positions --------------------------------------------

function has(pairs, host) {
  return pairs.some(([first, last]) => first <= host && host <= last);
}

function countOf(pairs) {
  return pairs.reduce((sum, [first, last]) => sum + last - first + 1, 0);
}

function* each(pairs) {
  for (const [first, last] of pairs) for (let host = first; host <= last; host++) yield host;
}

function hostsIn(pairs) {
  const count = countOf(pairs);
  if (count === doc.hosts.length && count > 2) return `all ${number(count)} hosts`;
  return count > 2 ? many(count, "host") : [...each(pairs)].map((host) => doc.hosts[host].name).join(", ");
}

// --- what belongs together ------------------------------------------------------------------------

for (const lease of doc.leases) {
  lease.hosts = [[lease.host, lease.host]];
  lease.vlan_id = lease.network === null ? null : doc.networks[lease.network].vlan_id;
}
doc.hosts.forEach((row, at) => Object.assign(row, {at, hosts: [[at, at]]}));
const leasesOf = new Map(); // position of the network -> host -> its leases
for (const lease of doc.leases) {
  const hosts = leasesOf.get(lease.network) || leasesOf.set(lease.network, new Map()).get(lease.network);
  (hosts.get(lease.host) || hosts.set(lease.host, []).get(lease.host)).push(lease);
}

/** The worst finding about something on a host: `worstOf(3, "network", "web")`. */
function worstOf(host, kind, key) {
  return marks.get(`${host} ${kind} ${key}`) || "ok";
}

const marks = new Map();
for (const finding of doc.findings) {
  for (const host of each(finding.hosts)) {
    const key = `${host} ${finding.kind} ${finding.key}`;
    if (WORST[finding.level] > WORST[marks.get(key) || "ok"]) marks.set(key, finding.level);
  }
}

function worse(one, other) {
  return WORST[one] >= WORST[other] ? one : other;
}

/** The VLANs, each a row of its own made from the networks, sub-interfaces and leases in it. */
const vlans = (() => {
  const found = new Map();
  const at = (id) => found.get(id) || found.set(id, {vlan_id: id, names: [], subnets: [], pairs: [], leases: 0, state: "ok"}).get(id);
  for (const row of doc.networks) {
    if (row.vlan_id === null) continue;
    const vlan = at(row.vlan_id);
    if (!vlan.names.includes(row.name)) vlan.names.push(row.name);
    for (const {subnet} of row.subnets) if (!vlan.subnets.includes(subnet)) vlan.subnets.push(subnet);
    vlan.pairs.push(...row.hosts);
  }
  for (const row of doc.links) at(row.vlan_id).pairs.push(...row.hosts);
  for (const row of doc.leases) if (row.vlan_id !== null) at(row.vlan_id).leases += 1;
  for (const row of doc.findings) if (found.has(row.vlan_id)) at(row.vlan_id).state = worse(at(row.vlan_id).state, row.level);
  for (const vlan of found.values()) vlan.hosts = merged(vlan.pairs);
  return [...found.values()].sort((one, other) => one.vlan_id - other.vlan_id);
})();

const vlanAt = new Map(vlans.map((vlan) => [vlan.vlan_id, vlan]));

function merged(pairs) {
  const result = [];
  for (const [first, last] of [...pairs].sort((one, other) => one[0] - other[0])) {
    const before = result[result.length - 1];
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else result.push([first, last]);
  }
  return result;
}

// --- what is in scope -----------------------------------------------------------------------------

/** Everything in a row that people may search for, in small letters; made when it is first needed. */
function wordsOf(row) {
  if (row.found === undefined) {
    const texts = [];
    collect(row, texts);
    if (row.hosts && countOf(row.hosts) <= 20) for (const host of each(row.hosts)) texts.push(doc.hosts[host].name);
    if (typeof row.network === "number") texts.push(doc.networks[row.network].name);
    if (Array.isArray(row.networks)) for (const at of row.networks) texts.push(doc.networks[at].name);
    if (row.vlan_id !== undefined && row.vlan_id !== null) texts.push(`vlan ${row.vlan_id}`);
    Object.defineProperty(row, "found", {value: texts.join("\n").toLowerCase()});
  }
  return row.found;
}

function collect(value, into) {
  if (typeof value === "string") into.push(value);
  else if (Array.isArray(value)) for (const item of value) collect(item, into);
  else if (value && typeof value === "object") {
    for (const [key, item] of Object.entries(value)) {
      if (key === "labels" || key === "aux_addresses") into.push(...Object.keys(item));
      collect(item, into);
    }
  }
}

/** Whether a row has all the words that the reader gave; `vlan 50` is one word, for it means one thing. */
function hasWords(row) {
  const asked = scope.words.toLowerCase().trim().replace(/\bvlan\s+(\d+)/g, "vlan\u00a0$1").split(/\s+/).filter(Boolean);
  return asked.every((word) => {
    if (!word.startsWith("vlan\u00a0")) return wordsOf(row).includes(word);
    return row.vlan_id === Number(word.slice(5));
  });
}

function inScope(row) {
  if (scope.host !== null && !has(row.hosts, scope.host)) return false;
  if (scope.vlan !== null) {
    if (row.at !== undefined) {
      if (!has(vlanAt.get(scope.vlan).hosts, row.at)) return false;
    } else if (row.vlan_id !== undefined && row.vlan_id !== scope.vlan) return false;
  }
  return !scope.words || hasWords(row);
}
