/** Counts per second over the last `seconds` whole seconds. */
export class RateMeter {
  #counts;
  #second;

  /** @param {{seconds?: number, now?: () => number}} [options] `now` in ms */
  constructor({ seconds = 120, now = Date.now } = {}) {
    this.seconds = seconds;
    this.now = now;
    this.reset();
  }

  reset() {
    // One more than is shown: the second that is still running.
    this.#counts = new Array(this.seconds + 1).fill(0);
    this.#second = Math.floor(this.now() / 1000);
  }

  add(count = 1) {
    this.#advance();
    this.#counts[this.seconds] += count;
  }

  /** Counts of the whole seconds, oldest first. */
  history() {
    this.#advance();
    return this.#counts.slice(0, this.seconds);
  }

  #advance() {
    const second = Math.floor(this.now() / 1000);
    // A clock that was set back stays on its second until time has caught up.
    const passed = Math.min(second - this.#second, this.#counts.length);
    if (passed <= 0) return;
    this.#counts = [...this.#counts.slice(passed), ...new Array(passed).fill(0)];
    this.#second = second;
  }
}
