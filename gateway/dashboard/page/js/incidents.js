/** What must not be overlooked: gaps, skipped entries, endings. Each leaves a mark in the list and a notice above it. */

import { formatCount } from "./dom.js";
import { mark } from "./row.js";

const ENDINGS = {
  drain: "The gateway is being restarted.",
  expired: "Your access has expired.",
  revoked: "Your access was revoked.",
  max_age: "The connection reached its greatest age.",
  stream_lost: "The stream was lost.",
};

/** The reason of a `gateway.closing` in words. */
export function ending(reason) {
  return ENDINGS[reason] ?? String(reason);
}

export class Incidents {
  #skips = new Map();

  /**
   * @param {{buffer: import("./event-buffer.js").EventBuffer, counters: import("./counters.js").Counters,
   *   notices: import("./notices.js").Notices}} parts
   */
  constructor({ buffer, counters, notices }) {
    this.buffer = buffer;
    this.counters = counters;
    this.notices = notices;
  }

  reset() {
    this.#skips.clear();
  }

  /** @param {{stream: string, requested: string, resumed_at: string, reason: string}} data @param {string} text */
  gap({ stream, requested, resumed_at: resumed, reason }, text) {
    const count = (this.counters.gaps += 1);
    const what =
      reason === "recreated"
        ? `“${stream}” was deleted and began anew; what followed ${requested} in the old one is gone. It goes on at ${resumed}.`
        : `“${stream}” no longer holds everything after ${requested}. It goes on at ${resumed}.`;
    this.buffer.push(mark("gap", `Gap: ${what}`, text));
    const times = count > 1 ? ` This is gap ${formatCount(count)} in this view.` : "";
    this.notices.show("gap", { level: "bad", title: "Events are missing.", text: what + times });
  }

  /** @param {{stream: string, id: string, reason: string}} data @param {string} text */
  skipped({ stream, id, reason }, text) {
    const count = (this.counters.skipped += 1);
    const words = String(reason).replaceAll("_", " ");
    this.#skips.set(words, (this.#skips.get(words) ?? 0) + 1);
    this.buffer.push(mark("skipped", `Skipped ${id}: ${words}`, text));
    const reasons = [...this.#skips].map(([why, times]) => `${formatCount(times)} × ${why}`).join(", ");
    this.notices.show("skipped", {
      level: "warning",
      title: count === 1 ? "1 entry was skipped." : `${formatCount(count)} entries were skipped.`,
      text: `What breaks a rule for events reaches nobody: ${reasons}. Last: ${id} in “${stream}”.`,
    });
  }

  /** @param {{reason: string}} data @param {string} text */
  closing({ reason }, text) {
    this.buffer.push(mark("closing", `${ending(reason)} The connection ends here`, text));
  }
}
