/**
 * The panel beside the list: details of an event, or the publish form. On a narrow screen it covers the page, and what
 * is below cannot be reached then.
 */

import { byId, setText } from "./dom.js";

const COVERS = matchMedia("(max-width: 63.99rem)");

export class Panel {
  #open = "";
  /** @type {Element|null} */
  #opener = null;

  /** @param {{onClose: () => void}} options */
  constructor({ onClose }) {
    this.onClose = onClose;
    this.node = byId("panel");
    this.title = byId("panel-title");
    this.beneath = [byId("filters"), ...document.querySelectorAll(".topbar, .pulse, .notices, .tail, .filter-summary")];
    byId("panel-close").addEventListener("click", () => this.close());
    this.node.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
    COVERS.addEventListener("change", () => this.#cover());
  }

  /** Name of the part that is shown, "" when the panel is closed. */
  get shown() {
    return this.#open;
  }

  /** @param {string} part  id of the part @param {string} title @param {{focus: boolean}} options */
  open(part, title, { focus }) {
    if (this.#open === "") this.#opener = document.activeElement;
    for (const each of this.node.children) if (each.id !== "") each.hidden = each.id !== part;
    this.#open = part;
    this.node.hidden = false;
    this.node.setAttribute("aria-labelledby", "panel-title");
    setText(this.title, title);
    this.#cover();
    if (focus || COVERS.matches) this.title.focus({ preventScroll: true });
  }

  close() {
    if (this.#open === "") return;
    const hadFocus = this.node.contains(document.activeElement);
    this.#open = "";
    this.node.hidden = true;
    this.#cover();
    if (hadFocus && this.#opener instanceof HTMLElement) this.#opener.focus({ preventScroll: true });
    this.onClose();
  }

  #cover() {
    const covering = COVERS.matches && this.#open !== "";
    for (const each of this.beneath) each.inert = covering;
    document.documentElement.classList.toggle("is-covered", covering);
  }
}
