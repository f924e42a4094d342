/**
 * Which rows the list shows: the live end, or a view held still while the buffer goes on.
 *
 * The view is held by the Pause button, by scrolling away from the newest row, and by choosing a row (under a hundred
 * events a second nobody could read one otherwise). A held view keeps its own rows, at most as many as the buffer.
 *
 * @typedef {"paused"|"reading"|"scrolled"} Hold
 */

import { payload } from "./row.js";
import { Rows } from "./event-buffer.js";

/** @type {Record<Hold, string>} */
export const WHY_HELD = {
  paused: "until you press Resume",
  reading: "while you read an event",
  scrolled: "while you look at older events",
};

export class Tail {
  /** @type {Hold|null} */
  #hold = null;
  #heldAt = 0;
  /** @type {Rows|null} */
  #rows = null;
  #term = "";
  #found = [];
  #foundAt = 0;

  /** @param {import("./event-buffer.js").EventBuffer} buffer @param {import("./event-list.js").EventList} list */
  constructor(buffer, list) {
    this.buffer = buffer;
    this.list = list;
  }

  /** @returns {Hold|null} why the view stands still */
  get held() {
    return this.#hold;
  }

  /** Rows that came since the view was held. */
  get waiting() {
    return this.#hold === null ? 0 : this.buffer.last - this.#heldAt;
  }

  /** Text that the rows shown contain, "" for all rows. */
  get term() {
    return this.#term;
  }

  set term(term) {
    this.#term = term.toLowerCase();
    this.#found = [];
    this.#foundAt = 0;
    if (this.#hold !== null) this.#rows = this.#snapshot();
    this.draw();
  }

  /** Holds the view for `reason`. The Pause button outranks the other two: only the user takes it back. */
  hold(reason) {
    if (this.#hold === null) {
      this.#heldAt = this.buffer.last;
      this.#rows = this.#snapshot();
    }
    if (this.#hold !== "paused") this.#hold = reason;
    this.draw();
  }

  /** Ends a hold for `reason`, unless the user has scrolled away meanwhile. @param {Hold} reason */
  release(reason) {
    if (this.#hold !== reason) return;
    if (reason !== "scrolled" && this.list.scroller.scrollTop > 0) this.#hold = "scrolled";
    else this.follow();
  }

  /** Back to the newest rows. */
  follow() {
    this.#hold = null;
    this.#rows = null;
    this.list.scrollToTop();
    this.draw();
  }

  clear() {
    this.buffer.clear();
    this.#found = [];
    this.#heldAt = this.buffer.last;
    if (this.#rows !== null) this.#rows = new Rows([]);
    this.list.selected = 0;
    this.draw();
  }

  /** @returns {number} how many rows are shown, found ones only when there is a term */
  draw() {
    const source = this.#rows ?? (this.#term === "" ? this.buffer : this.#search());
    this.list.show(source);
    return source.length;
  }

  #snapshot() {
    return this.buffer.snapshot((row) => this.#matches(row));
  }

  #matches(row) {
    if (this.#term === "") return true;
    if (row.kind !== "event") return row.label.toLowerCase().includes(this.#term);
    return `${row.id} ${row.type} ${row.channel} ${payload(row)}`.toLowerCase().includes(this.#term);
  }

  /** The rows of the buffer that match, looking only at those that came since the last look. */
  #search() {
    const fresh = [];
    for (let index = 0; index < this.buffer.length; index += 1) {
      const row = this.buffer.newest(index);
      if (row.number <= this.#foundAt) break;
      if (this.#matches(row)) fresh.push(row);
    }
    this.#foundAt = this.buffer.last;
    const oldest = this.buffer.last - this.buffer.length;
    this.#found = [...this.#found.filter((row) => row.number > oldest), ...fresh.reverse()];
    return new Rows(this.#found);
  }
}
