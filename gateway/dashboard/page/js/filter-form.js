/** The form that says what to follow. Submitting it changes the address; the address changes the view. */

import { byId, element, setText } from "./dom.js";
import { fieldName } from "./problem.js";
import { describe, listError, splitList, startError } from "./subscription.js";

const PARTS = [
  ["types", "type"],
  ["channels", "channel"],
  ["streams", "stream"],
];
const HINTS = { live: "", last: "1 to 1000", since: "10m, earliest, time, id" };
const SUGGESTED = 50;

export class FilterForm {
  #seen = { type: new Set(), channel: new Set() };
  #values = { last: "50", since: "10m" };

  /** @param {{onApply: (subscription: import("./subscription.js").Subscription) => void}} options */
  constructor({ onApply }) {
    this.form = byId("filters");
    this.fields = this.form.elements;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const subscription = this.#read();
      if (subscription !== null) onApply(subscription);
    });
    this.fields.start.addEventListener("change", () => this.#startChanged());
    for (const name of ["type", "channel"]) this.fields[name].addEventListener("focus", () => this.#suggest(name));
    byId("filters-toggle").addEventListener("click", () => this.#unfold(!this.form.classList.contains("is-open")));
  }

  /** @param {import("./subscription.js").Subscription} subscription */
  show(subscription) {
    for (const [part, name] of PARTS) this.fields[name].value = subscription[part].join(", ");
    const { kind, value } = subscription.start;
    if (kind !== "live") this.#values[kind] = value;
    this.fields.start.value = kind;
    this.#startChanged();
    this.#showErrors({});
    setText(byId("filters-summary"), describe(subscription));
    this.#unfold(false);
  }

  /** Puts the gateway's own findings (`errors` of a problem) beside their fields; returns how many found a field. */
  showProblem(errors) {
    const found = {};
    for (const { field, message } of errors) {
      const name = { events: "type", since: "start", last: "start" }[fieldName(field)] ?? fieldName(field);
      if (["type", "channel", "stream", "start"].includes(name)) found[name] = message;
    }
    this.#showErrors(found);
    return Object.keys(found).length;
  }

  /** Remembers what there is, to suggest it. @param {{type: string, channel: string}} row */
  saw({ type, channel }) {
    if (this.#seen.type.size < SUGGESTED) this.#seen.type.add(type);
    if (this.#seen.channel.size < SUGGESTED) this.#seen.channel.add(channel);
  }

  #read() {
    const found = {};
    /** @type {import("./subscription.js").Subscription} */
    const subscription = { streams: [], channels: [], types: [], start: { kind: "live", value: "" } };
    for (const [part, name] of PARTS) {
      subscription[part] = splitList(this.fields[name].value);
      found[name] = listError(part, subscription[part]);
    }
    const kind = this.fields.start.value;
    subscription.start = { kind, value: kind === "live" ? "" : this.fields.value.value.trim() };
    found.start = startError(subscription.start);
    this.#showErrors(found);
    const first = ["type", "channel", "stream", "start"].find((name) => found[name]);
    if (first === undefined) return subscription;
    this.#input(first).focus();
    return null;
  }

  #input(name) {
    return this.fields[name === "start" ? "value" : name];
  }

  #showErrors(found) {
    for (const name of ["type", "channel", "stream", "start"]) {
      const message = found[name] ?? "";
      setText(byId(`filter-${name}-error`), message);
      this.#input(name).setAttribute("aria-invalid", String(message !== ""));
    }
    if (Object.values(found).some(Boolean)) this.#unfold(true);
  }

  /** On a phone the form is folded away behind a button. */
  #unfold(open) {
    this.form.classList.toggle("is-open", open);
    byId("filters-toggle").setAttribute("aria-expanded", String(open));
  }

  #startChanged() {
    const kind = this.fields.start.value;
    const input = this.fields.value;
    input.disabled = kind === "live";
    input.value = kind === "live" ? "" : this.#values[kind];
    input.placeholder = HINTS[kind];
    input.inputMode = kind === "last" ? "numeric" : "text";
    input.ariaLabel = kind === "last" ? "How many events" : "Since when";
  }

  #suggest(name) {
    const options = [...this.#seen[name]].sort().map((value) => element("option", { value }));
    byId(`seen-${name}s`).replaceChildren(...options);
  }
}
