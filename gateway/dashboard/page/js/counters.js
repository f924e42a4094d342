/** The numbers beside the line. */

import { byId, formatCount, setText } from "./dom.js";

export class Counters {
  received = 0;
  gaps = 0;
  skipped = 0;

  reset() {
    this.received = this.gaps = this.skipped = 0;
  }

  /** @param {{history: number[], dropped: number}} now */
  draw({ history, dropped }) {
    const show = (id, count) => setText(byId(id), formatCount(count));
    show("count-rate", history.at(-1) ?? 0);
    show("count-peak", Math.max(...history));
    show("count-received", this.received);
    show("count-dropped", dropped);
    show("count-gaps", this.gaps);
    show("count-skipped", this.skipped);
    byId("counter-gaps").classList.toggle("is-bad", this.gaps > 0);
    byId("counter-skipped").classList.toggle("is-warning", this.skipped > 0);
  }
}
