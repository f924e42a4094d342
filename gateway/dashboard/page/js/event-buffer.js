/**
 * The newest rows, bounded by number and by characters. When a bound is passed the oldest rows leave, counted.
 * Numbers rise by one per row and are never given twice, so a row can be found again after others have left.
 */
export class EventBuffer {
  #rows = [];
  #head = 0;
  #characters = 0;
  #last = 0;
  #dropped = 0;

  /** @param {{maxRows: number, maxCharacters: number}} bounds */
  constructor({ maxRows, maxCharacters }) {
    this.maxRows = maxRows;
    this.maxCharacters = maxCharacters;
  }

  push(row) {
    row.number = this.#last += 1;
    this.#rows.push(row);
    this.#characters += row.text.length;
    while (this.length > this.maxRows || (this.#characters > this.maxCharacters && this.length > 1)) this.#dropOldest();
  }

  /** Empties the buffer on the user's wish: this does not count as dropped. */
  clear() {
    this.#rows = [];
    this.#head = 0;
    this.#characters = 0;
    this.#dropped = 0;
  }

  get length() {
    return this.#rows.length - this.#head;
  }

  /** Number of the newest row ever pushed. */
  get last() {
    return this.#last;
  }

  /** Rows that left because of the bounds. */
  get dropped() {
    return this.#dropped;
  }

  /** The row at `index`, 0 being the newest. */
  newest(index) {
    return this.#rows[this.#rows.length - 1 - index];
  }

  /**
   * The rows that `keep` chooses, as they are now: for a view that must not move. The rows themselves are shared.
   * @param {(row: import("./row.js").Row) => boolean} keep
   */
  snapshot(keep) {
    return new Rows(this.#rows.slice(this.#head).filter(keep));
  }

  #dropOldest() {
    this.#characters -= this.#rows[this.#head].text.length;
    this.#rows[this.#head] = undefined;
    this.#head += 1;
    this.#dropped += 1;
    // Moving the rest down once per thousand rows instead of at each one.
    if (this.#head >= 1024) {
      this.#rows = this.#rows.slice(this.#head);
      this.#head = 0;
    }
  }
}

/** A fixed run of rows, oldest first in memory, read like the buffer. */
export class Rows {
  #rows;

  constructor(rows) {
    this.#rows = rows;
  }

  get length() {
    return this.#rows.length;
  }

  newest(index) {
    return this.#rows[this.#rows.length - 1 - index];
  }
}
