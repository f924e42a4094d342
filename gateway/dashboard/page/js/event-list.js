/**
 * The rows on screen. Only those in sight are in the document, so thousands a second cost what a screenful costs.
 * Newest first; each row keeps its element as long as it stays in sight.
 *
 * @typedef {import("./row.js").Row} Row
 * @typedef {{length: number, newest: (index: number) => Row}} Source
 */

import { clockTime, payload, tone } from "./row.js";
import { element, setText } from "./dom.js";

const OVERSCAN = 4;
const PREVIEW = 400;

export class EventList {
  #elements = new Map();
  /** @type {Source} */
  #source = { length: 0, newest: () => { throw new RangeError("empty"); } };
  #selected = 0;
  #rowHeight = 0;

  /**
   * @param {HTMLElement} scroller  a listbox with one child that is as high as all rows
   * @param {{onChoose: (row: Row|null, by: "pointer"|"enter"|"arrows") => void, onScroll: (top: number) => void,
   *   onToggle: () => void}} options
   */
  constructor(scroller, { onChoose, onScroll, onToggle }) {
    this.scroller = scroller;
    this.space = /** @type {HTMLElement} */ (scroller.firstElementChild);
    this.onChoose = onChoose;
    this.onToggle = onToggle;
    scroller.addEventListener("scroll", () => {
      onScroll(scroller.scrollTop);
      this.draw();
    });
    scroller.addEventListener("click", (event) => this.#clicked(event));
    scroller.addEventListener("keydown", (event) => this.#pressed(event));
    new ResizeObserver(() => {
      this.#rowHeight = 0;
      this.draw();
    }).observe(scroller);
  }

  /** Number of the chosen row, 0 for none. */
  get selected() {
    return this.#selected;
  }

  set selected(number) {
    this.#selected = number;
    this.draw();
  }

  /** @param {Source} source */
  show(source) {
    this.#source = source;
    this.draw();
  }

  scrollToTop() {
    this.scroller.scrollTop = 0;
  }

  draw() {
    const { scroller, space } = this;
    this.#rowHeight ||= Number.parseFloat(getComputedStyle(scroller).getPropertyValue("--row-height")) || 32;
    const height = this.#rowHeight;
    const total = this.#source.length;
    space.style.height = `${total * height}px`;
    const first = Math.max(0, Math.floor(scroller.scrollTop / height) - OVERSCAN);
    const end = Math.min(total, Math.ceil((scroller.scrollTop + scroller.clientHeight) / height) + OVERSCAN);
    const unused = new Map(this.#elements);
    const wanted = [];
    for (let index = first; index < end; index += 1) {
      const row = this.#source.newest(index);
      let node = this.#elements.get(row.number);
      if (node === undefined) {
        node = rowElement(row);
        this.#elements.set(row.number, node);
      }
      unused.delete(row.number);
      node.style.transform = `translateY(${index * height}px)`;
      node.ariaSetSize = String(total);
      node.ariaPosInSet = String(index + 1);
      node.ariaSelected = String(row.number === this.#selected);
      wanted.push(node);
    }
    for (const [number, node] of unused) {
      node.remove();
      this.#elements.delete(number);
    }
    // The document's order is the reading order of assistive technology.
    wanted.forEach((node, at) => {
      if (space.children[at] !== node) space.insertBefore(node, space.children[at] ?? null);
    });
    if (this.#elements.has(this.#selected)) scroller.setAttribute("aria-activedescendant", rowId(this.#selected));
    else scroller.removeAttribute("aria-activedescendant");
  }

  #clicked(event) {
    const node = event.target instanceof Element ? event.target.closest(".row") : null;
    if (node === null || String(getSelection()) !== "") return;
    const index = this.#find((row) => rowId(row.number) === node.id);
    if (index >= 0) this.#choose(index, "pointer");
  }

  #pressed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.#rowHeight) - 1);
    const at = this.#find((row) => row.number === this.#selected);
    const last = this.#source.length - 1;
    const moves = {
      ArrowDown: at + 1,
      ArrowUp: at < 0 ? 0 : at - 1,
      PageDown: at + page,
      PageUp: at < 0 ? 0 : at - page,
      Home: 0,
      End: last,
      Enter: Math.max(0, at),
    };
    if (event.key in moves && last >= 0) {
      event.preventDefault();
      const by = event.key === "Enter" ? "enter" : "arrows";
      this.#choose(Math.min(last, Math.max(0, moves[event.key])), by);
    } else if (event.key === " ") {
      event.preventDefault();
      this.onToggle();
    } else if (event.key === "Escape") {
      this.onChoose(null, "arrows");
    }
  }

  #choose(index, by) {
    const row = this.#source.newest(index);
    this.#selected = row.number;
    this.#bringIntoSight(index);
    this.draw();
    this.onChoose(row, by);
  }

  #bringIntoSight(index) {
    const { scroller } = this;
    const top = index * this.#rowHeight;
    const lowest = top + this.#rowHeight - scroller.clientHeight;
    if (scroller.scrollTop > top) scroller.scrollTop = top;
    else if (scroller.scrollTop < lowest) scroller.scrollTop = lowest;
  }

  #find(matches) {
    for (let index = 0; index < this.#source.length; index += 1) {
      if (matches(this.#source.newest(index))) return index;
    }
    return -1;
  }
}

function rowId(number) {
  return `row-${number}`;
}

/** @param {Row} row */
function rowElement(row) {
  const node = element("div", { id: rowId(row.number), role: "option" });
  if (row.kind === "event") {
    node.className = "row row-event";
    node.append(
      element("span", { className: "row-time", title: row.time }, clockTime(row.time)),
      element("span", { className: "row-type" }, row.type),
      element("span", { className: `row-channel tone-${tone(row.channel)}` }, row.channel),
      element("span", { className: "row-data" }, payload(row, PREVIEW)),
      element("span", { className: "row-id" }, row.id),
    );
  } else {
    node.className = `row row-mark row-${row.kind}`;
    const label = element("span", { className: "row-label" });
    setText(label, row.label);
    node.append(label);
  }
  return node;
}
