/** The state of the connection, in one word or two, and in colour. */

import { announce, byId, setText } from "./dom.js";

const WORDS = {
  idle: "Not connected",
  connecting: "Connecting",
  open: "Live",
  reconnecting: "Reconnecting",
  closed: "Closed",
};

export class ConnectionBadge {
  #said = "";
  /** @type {import("./stream-client.js").State} */
  #state = { name: "idle" };
  #replaying = false;

  constructor() {
    this.node = byId("connection");
    this.text = byId("connection-text");
    setInterval(() => this.#draw(), 1000);
  }

  /** @param {import("./stream-client.js").State} state @param {boolean} replaying */
  show(state, replaying) {
    this.#state = state;
    this.#replaying = replaying;
    this.#draw();
    this.#say();
  }

  #draw() {
    this.node.dataset.state = this.#state.name;
    setText(this.text, this.#words());
    document.title = `${WORDS[this.#state.name]} · SSE Gateway`;
  }

  #words() {
    const { name, retryAt } = this.#state;
    if (name === "open" && this.#replaying) return "Replaying";
    // Only said while there is trouble: a gateway on this machine can be reached without any network.
    if (name === "reconnecting" && !navigator.onLine) return "Offline";
    if (name === "reconnecting" && retryAt !== undefined) {
      return `Retry in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s`;
    }
    return WORDS[name];
  }

  /** Only changes are worth a word: connecting, which passes in a moment, is not. */
  #say() {
    const word = WORDS[this.#state.name];
    if (word === this.#said || this.#state.name === "connecting" || this.#state.name === "idle") return;
    this.#said = word;
    announce(`Connection: ${word}`);
  }
}
