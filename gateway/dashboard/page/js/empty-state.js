/** What stands in an empty list: why it is empty, and how to change that. */

import { copyOnClick } from "./clipboard.js";
import { curlPublish, xaddPublish } from "./commands.js";
import { element } from "./dom.js";

const meta = (name) => document.querySelector(`meta[name="gateway-${name}"]`)?.getAttribute("content") ?? "";

/**
 * @param {HTMLElement} parent
 * @param {{subscription: import("./subscription.js").Subscription, onUnfilter: () => void}} options
 */
export function showEmpty(parent, { subscription, onUnfilter }) {
  const { types, channels, streams } = subscription;
  const filtered = types.length > 0 || channels.length > 0;
  parent.replaceChildren(
    element("h2", {}, filtered ? "No event has passed this filter yet" : "Waiting for events"),
    element("p", {}, filtered ? "Events that match will appear here at once." : "Publish one from a terminal, and it appears here at once."),
  );
  if (filtered) {
    const button = element("button", { type: "button", className: "button" }, "Show all events");
    button.addEventListener("click", onUnfilter);
    parent.append(button);
  }
  const stream = streams[0] ?? meta("stream");
  parent.append(command("Over HTTP", curlPublish()), command("Straight into Redis", xaddPublish(meta("redis-cli"), stream)));
}

function command(label, line) {
  const copy = element("button", { type: "button", className: "button button-quiet", ariaLabel: `Copy: ${label}` }, "Copy");
  copyOnClick(copy, () => line);
  return element(
    "div",
    { className: "command" },
    element("div", { className: "command-head" }, element("h3", {}, label), copy),
    element("pre", {}, element("code", {}, line)),
  );
}
