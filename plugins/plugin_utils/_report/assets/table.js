// Copyright: netops.underlay contributors
// SPDX-License-Identifier: GPL-3.0-or-later
// A table that sorts, and of which only what is on the screen is made: a hundred thousand rows are no more work
// than fifty.

const SPARE = 12; // rows made above and below the screen
const PRINTED = 200; // rows of each table that go on paper

/**
 * A column: `label`, `value(row)` to sort by, `cell(row)` for what stands there (its value where it is not given),
 * `css`, `width` (`narrow` on a phone), and in the first wide one `sub(row)`, a second line that narrow screens have instead of columns.
 */
class Table {
  constructor(label, columns) {
    this.columns = columns;
    this.rows = [];
    this.sorted = [];
    this.by = null;
    this.falling = false;
    this.body = el("tbody");
    this.heads = columns.map((column) =>
      el("th", {scope: "col", class: column.css}, el("button", {type: "button", title: `Sort by ${column.label}`, onclick: () => this.sort(column)}, column.label)),
    );
    const widths = el("colgroup", {}, ...columns.map((column) => {
      const col = el("col", {class: column.css});
      if (column.width) col.style.setProperty("--w", column.width + "px");
      if (column.narrow) col.style.setProperty("--narrow", column.narrow + "px");
      return col;
    }));
    this.table = el("table", {"aria-label": label}, widths, el("thead", {}, el("tr", {}, ...this.heads)), this.body);
    this.none = el("p.empty", {}, "No matches. Clear the filter with Esc.");
    this.node = el("div", {}, this.table, this.none);
    this.shown = "";
    this.whole = false;
  }

  show(rows) {
    this.rows = rows;
    this.order();
  }

  sort(column) {
    this.falling = this.by === column && !this.falling;
    this.by = column;
    this.columns.forEach((other, at) => {
      if (other === column) this.heads[at].setAttribute("aria-sort", this.falling ? "descending" : "ascending");
      else this.heads[at].removeAttribute("aria-sort");
    });
    this.order();
  }

  order() {
    this.sorted = this.rows;
    if (this.by) {
      const keyed = this.rows.map((row) => [this.by.value(row), row]);
      keyed.sort(([one], [other]) => (this.falling ? -1 : 1) * compared(one, other));
      this.sorted = keyed.map(([, row]) => row);
    }
    this.table.hidden = !this.sorted.length;
    this.none.hidden = !!this.sorted.length;
    this.table.setAttribute("aria-rowcount", this.sorted.length + 1);
    this.shown = "";
    this.draw();
  }

  /** Make the rows that are on the screen, with room above and below for those that are not. */
  draw() {
    if (!this.table.isConnected || this.table.hidden) return;
    const height = parseFloat(getComputedStyle(this.table).getPropertyValue("--row"));
    const above = -this.body.getBoundingClientRect().top;
    let first = Math.max(0, Math.floor(above / height) - SPARE);
    let last = Math.min(this.sorted.length, Math.ceil((above + innerHeight) / height) + SPARE);
    if (this.whole) [first, last] = [0, Math.min(this.sorted.length, PRINTED)];
    last = Math.max(last, Math.min(this.sorted.length, SPARE));
    first = Math.min(first, last);
    if (this.shown === `${first} ${last} ${this.whole}`) return;
    this.shown = `${first} ${last} ${this.whole}`;
    const rows = this.sorted.slice(first, last).map((row, at) => this.row(row, first + at));
    if (this.whole) {
      const rest = this.sorted.length - last;
      this.body.replaceChildren(...rows, ...(rest ? [this.line(`and ${number(rest)} more, see the page or the JSON form`)] : []));
    } else {
      this.body.replaceChildren(space(first * height), ...rows, space((this.sorted.length - last) * height));
    }
  }

  row(row, at) {
    const cells = this.columns.map((column) => {
      const inside = column.cell ? column.cell(row) : column.value(row);
      const cell = el("td", {class: column.css, title: typeof inside === "string" ? inside : column.title && column.title(row)});
      cell.append(...(Array.isArray(inside) ? inside.filter((part) => part !== null) : [inside === null || inside === undefined ? "" : inside]));
      if (column.sub) cell.append(el("span.sub", {}, column.sub(row)));
      return cell;
    });
    return el("tr", {"aria-rowindex": at + 2}, ...cells);
  }

  line(text) {
    return el("tr", {}, el("td", {colspan: this.columns.length}, text));
  }
}

function space(height) {
  const cell = el("td");
  cell.style.setProperty("height", height + "px");
  return el("tr.space", {"aria-hidden": "true"}, cell);
}

function compared(one, other) {
  if (typeof one !== "string" && typeof one === typeof other && one !== null) return one < other ? -1 : Number(one > other);
  if (one === null || one === undefined || other === null || other === undefined) {
    return (one === null || one === undefined ? 1 : 0) - (other === null || other === undefined ? 1 : 0);
  }
  return byName(String(one), String(other));
}

/** An address or prefix as a number, IPv4 before IPv6, a prefix before those inside it. */
function addressKey(text) {
  if (!text) return null;
  const [ip, bits] = text.split(/[-,]/)[0].split("/"); // of several ranges the first
  const [head, rest] = ip.split("::");
  const parts = (list) => (list ? list.split(":") : []);
  const left = ip.includes(":") ? parts(head) : ip.split(".");
  const right = parts(rest);
  const zeros = rest === undefined ? [] : Array(Math.max(0, 8 - left.length - right.length)).fill("0");
  const [base, step, version] = ip.includes(":") ? [16, 16n, 1n] : [10, 8n, 0n];
  const value = [...left, ...zeros, ...right].reduce((sum, part) => (sum << step) + BigInt(parseInt(part, base) || 0), 0n);
  return (version << 136n) + (value << 8n) + BigInt(bits || 0);
}
