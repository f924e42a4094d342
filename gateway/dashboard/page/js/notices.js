/** Bars above the list that stay until they are dismissed or their cause is gone. One bar per key. */

import { element } from "./dom.js";

const MAX_BARS = 4;

export class Notices {
  #bars = new Map();

  /** @param {HTMLElement} parent */
  constructor(parent) {
    this.parent = parent;
  }

  /**
   * @param {string} key  a second notice with this key takes the place of the first
   * @param {{level: "bad"|"warning"|"info", title: string, text: string, dismiss?: boolean,
   *   actions?: {label: string, run: () => void}[]}} notice
   */
  show(key, { level, title, text, dismiss = true, actions = [] }) {
    const bar = element("div", { className: `notice notice-${level}`, role: level === "info" ? "status" : "alert" });
    bar.append(
      element("span", { className: "notice-mark", ariaHidden: "true" }),
      element("p", { className: "notice-text" }, element("strong", {}, title), " ", text),
    );
    bar.append(...actions.map(({ label, run }) => button(label, run)));
    if (dismiss) {
      const close = button("×", () => this.remove(key));
      close.classList.add("notice-close");
      close.ariaLabel = "Dismiss";
      bar.append(close);
    }
    this.#bars.get(key)?.remove();
    this.#bars.delete(key);
    this.#bars.set(key, bar);
    this.parent.prepend(bar);
    const oldest = this.#bars.keys().next().value;
    if (this.#bars.size > MAX_BARS && oldest !== undefined) this.remove(oldest);
  }

  remove(key) {
    this.#bars.get(key)?.remove();
    this.#bars.delete(key);
  }

  clear() {
    for (const key of [...this.#bars.keys()]) this.remove(key);
  }
}

function button(label, run) {
  const node = element("button", { type: "button", className: "button button-quiet" }, label);
  node.addEventListener("click", run);
  return node;
}
