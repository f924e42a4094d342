/** One event in full. The payload is laid out as text: what is read here is what was published. */

import { copyOnClick } from "./clipboard.js";
import { countOf, element } from "./dom.js";
import { layOut } from "./json-text.js";
import { payload } from "./row.js";

const COLOURED = 60_000;
const SHOWN = 1_000_000;

/**
 * Fills `parent` with `row`.
 * @param {HTMLElement} parent
 * @param {import("./row.js").EventRow} row
 * @param {{curlFrom: (position: string) => string, onFilter: (part: "types"|"channels", value: string) => void}} options
 */
export function showEvent(parent, row, { curlFrom, onFilter }) {
  const text = payload(row);
  parent.replaceChildren(
    facts(row, text),
    element(
      "div",
      { className: "details-actions" },
      copier("Copy id", () => row.id),
      copier("Copy data", () => text),
      copier("Copy envelope", () => row.text),
      copier("Copy curl from here", () => curlFrom(row.position)),
    ),
    element(
      "div",
      { className: "details-actions" },
      chooser(`Only type ${row.type}`, () => onFilter("types", row.type)),
      chooser(`Only channel ${row.channel}`, () => onFilter("channels", row.channel)),
    ),
    payloadView(text),
  );
}

/** Fills `parent` with what a control event said. @param {import("./row.js").MarkRow} row */
export function showMark(parent, row) {
  parent.replaceChildren(element("p", { className: "details-label" }, row.label), payloadView(row.text));
}

function facts(row, text) {
  const list = element("dl", { className: "facts" });
  const fact = (name, value) => list.append(element("dt", {}, name), element("dd", {}, value));
  fact("Id", row.id);
  fact("Stream", row.stream);
  fact("Channel", row.channel);
  if (row.tenant !== undefined) fact("Tenant", row.tenant);
  fact("Time", row.time);
  fact("Size", countOf(new TextEncoder().encode(text).length, "byte"));
  return list;
}

function payloadView(text) {
  const view = element("pre", { className: "payload", tabIndex: 0, ariaLabel: "Data", role: "region" });
  const shown = text.length > SHOWN ? text.slice(0, SHOWN) : text;
  const tokens = layOut(shown);
  if (tokens === null) {
    view.append(shown);
  } else if (shown.length > COLOURED) {
    view.append(tokens.map((token) => token.text).join(""));
  } else {
    view.append(...tokens.map(({ kind, text: part }) => (kind === "space" ? part : element("span", { className: `json-${kind}` }, part))));
  }
  if (shown !== text) {
    const note = element("p", { className: "payload-note" }, `The first ${countOf(SHOWN, "character")}. “Copy data” copies all of it.`);
    return element("div", {}, note, view);
  }
  return view;
}

function copier(label, text) {
  const button = element("button", { type: "button", className: "button" }, label);
  copyOnClick(button, text);
  return button;
}

function chooser(label, run) {
  const button = element("button", { type: "button", className: "button button-quiet", title: label }, label);
  button.addEventListener("click", run);
  return button;
}
