/** Where the page begins: finds the section that the address names and shows it. */

import { byId } from "./dom.js";
import { LiveView } from "./live-view.js";
import { themeButton } from "./theme.js";

themeButton(byId("theme"));

const sections = { "/events": new LiveView() };

function showAddress() {
  const { hash } = location;
  const [path] = hash.slice(1).split("?");
  (sections[path] ?? sections["/events"]).show(hash);
}

// A plain #fragment would take the filters out of the address.
byId("skip-link").addEventListener("click", (event) => {
  event.preventDefault();
  const list = byId("events");
  (list.classList.contains("is-empty") ? byId("pause") : list).focus();
});

addEventListener("hashchange", showAddress);
showAddress();
