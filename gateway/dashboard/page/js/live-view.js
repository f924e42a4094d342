/** The live section: joins the stream client with what shows it. */

import { AccessForm } from "./access-form.js";
import { copyOnClick } from "./clipboard.js";
import { curlTail, eventsUrl } from "./commands.js";
import { ConnectionBadge } from "./connection-badge.js";
import { Counters } from "./counters.js";
import { Credential } from "./credential.js";
import { showEvent, showMark } from "./details.js";
import { byId, countOf, element, formatCount, paced, setText } from "./dom.js";
import { showEmpty } from "./empty-state.js";
import { EventBuffer } from "./event-buffer.js";
import { EventList } from "./event-list.js";
import { FilterForm } from "./filter-form.js";
import { ending, Incidents } from "./incidents.js";
import { Notices } from "./notices.js";
import { Panel } from "./panel.js";
import { PublishForm } from "./publish-form.js";
import { RateLine } from "./rate-line.js";
import { RateMeter } from "./rate-meter.js";
import { mark, readEvent } from "./row.js";
import { StreamClient } from "./stream-client.js";
import { apiQuery, readHash, writeHash } from "./subscription.js";
import { Tail, WHY_HELD } from "./tail.js";

const BOUNDS = { maxRows: 5_000, maxCharacters: 32_000_000 };
/** Ms between drawings. Under 2,000 events a second, drawing each frame would take a core and could be read by nobody. */
const DRAW_PAUSE = 80;
const WIDE = matchMedia("(min-width: 64rem)");
const TITLES = { publish: "Publish an event", access: "Access" };

export class LiveView {
  #subscription = readHash("");
  /** Whether history still comes in; it counts as received, not as a rate. */
  #replaying = false;
  /** Whether the live end was reached once, and lost since. */
  #live = false;
  #cut = false;
  /** @type {import("./subscription.js").Subscription|"term"|null} */
  #emptyFor = null;

  constructor() {
    this.buffer = new EventBuffer(BOUNDS);
    this.meter = new RateMeter();
    this.counters = new Counters();
    this.badge = new ConnectionBadge();
    this.notices = new Notices(byId("notices"));
    this.incidents = new Incidents(this);
    this.line = new RateLine(byId("rate"));
    this.askDraw = paced(() => this.#draw(), DRAW_PAUSE);
    this.panel = new Panel({ onClose: () => this.#panelClosed() });
    this.list = new EventList(byId("events"), {
      onChoose: (row, by) => this.#chosen(row, by),
      onScroll: (top) => this.#scrolled(top),
      onToggle: () => this.#togglePause(),
    });
    this.tail = new Tail(this.buffer, this.list);
    this.filters = new FilterForm({ onApply: (subscription) => this.#go(subscription) });
    const url = eventsUrl();
    this.credential = new Credential(new URL("tickets", url).href);
    this.access = new AccessForm({ credential: this.credential, onChange: () => this.show(location.hash) });
    this.publish = new PublishForm({ url, credential: this.credential, stream: () => this.#onlyStream() });
    this.client = new StreamClient({
      url,
      credential: this.credential,
      onEvent: (text, position) => this.#event(text, position),
      onControl: (name, data, text) => this.#control(name, data, text),
      onState: (state) => this.#connection(state),
    });
    this.#wire();
    setInterval(() => this.#drawRate(), 1000);
  }

  /** Shows what `hash` asks for, from its start. @param {string} hash */
  show(hash) {
    this.#subscription = readHash(hash);
    this.filters.show(this.#subscription);
    this.#replaying = this.#subscription.start.kind !== "live";
    this.#live = this.#cut = false;
    this.incidents.reset();
    this.counters.reset();
    this.meter.reset();
    this.notices.clear();
    this.tail.clear();
    this.tail.follow();
    if (["details", "access"].includes(this.panel.shown)) this.panel.close();
    byId("access-open").hidden = !this.credential.given;
    this.client.open(apiQuery(this.#subscription));
    this.#drawRate();
    this.askDraw();
  }

  #wire() {
    byId("pause").addEventListener("click", () => this.#togglePause());
    byId("newer").addEventListener("click", () => this.#follow());
    byId("clear").addEventListener("click", () => {
      if (this.panel.shown === "details") this.panel.close();
      this.tail.clear();
      this.askDraw();
    });
    byId("find").addEventListener("input", (event) => {
      this.tail.term = event.target.value;
      this.askDraw();
    });
    copyOnClick(byId("copy-curl"), () => curlTail(this.#subscription, { withKey: this.credential.given }));
    copyOnClick(byId("copy-link"), () => location.href);
    for (const part of ["publish", "access"]) {
      byId(`${part}-open`).addEventListener("click", () => {
        if (this.panel.shown === part) this.panel.close();
        else this.#openForm(part);
      });
    }
  }

  #go(subscription) {
    const hash = writeHash(subscription);
    if (hash === location.hash) this.show(hash);
    else location.hash = hash; // hashchange does the rest, as it does for Back
  }

  #onlyStream() {
    const { streams } = this.#subscription;
    return streams.length === 1 ? streams[0] : undefined;
  }

  // What comes in

  #event(text, position) {
    const row = readEvent(text, position);
    this.buffer.push(row);
    this.counters.received += 1;
    if (!this.#replaying) this.meter.add();
    this.filters.saw(row);
    this.askDraw();
  }

  #control(name, data, text) {
    const handle = {
      "gateway.gap": () => this.incidents.gap(data, text),
      "gateway.skipped": () => this.incidents.skipped(data, text),
      "gateway.closing": () => this.incidents.closing(data, text),
      "gateway.caught-up": () => this.#caughtUp(data, text),
    }[name];
    handle?.();
    this.askDraw();
  }

  #caughtUp({ replayed = 0 }, text) {
    if (this.#cut) this.buffer.push(mark("back", `Connection back; ${countOf(replayed, "event")} caught up`, text));
    else if (this.#replaying && replayed > 0) this.buffer.push(mark("caught-up", "Live from here", text));
    this.#replaying = this.#cut = false;
    this.#live = true;
    this.badge.show(this.client.state, false);
  }

  #connection(state) {
    if (state.name === "reconnecting" && this.#live) this.#cut = true;
    this.badge.show(state, this.#replaying);
    if (state.name === "open") ["closed", "slow", "trouble"].forEach((key) => this.notices.remove(key));
    if (state.name === "closed") this.#closed(state);
    if (state.slow) {
      this.notices.show("slow", {
        level: "info",
        title: "Still connecting.",
        text: "Over HTTP/1.1 a browser opens six connections to a host, and each tab with a live stream holds one. If other tabs are open, close one.",
      });
    }
    if (state.name === "reconnecting" && state.problem !== undefined) {
      this.notices.show("trouble", { level: "warning", title: "The gateway is not ready.", text: state.reason ?? "", dismiss: false });
    }
    this.askDraw();
  }

  #closed({ reason, problem }) {
    const placed = problem === undefined ? 0 : this.filters.showProblem(problem.errors);
    const ofAccess = [401, 403].includes(problem?.status ?? 0) || ["expired", "revoked"].includes(reason);
    byId("access-open").hidden = !(ofAccess || this.credential.given);
    this.notices.remove("slow");
    this.notices.remove("trouble");
    this.notices.show("closed", {
      level: "bad",
      title: "Not connected.",
      text: placed > 0 ? "The gateway does not accept the filter that is marked." : ending(reason),
      dismiss: false,
      actions: [
        { label: "Connect again", run: () => this.client.reopen() },
        ...(ofAccess ? [{ label: "Enter a key", run: () => this.#openForm("access") }] : []),
      ],
    });
    if (problem?.status !== 401) return;
    this.access.complain(this.credential.given ? ending(reason) : "");
    this.#openForm("access");
  }

  // What the user does

  #chosen(row, by) {
    if (row === null) {
      this.panel.close();
      return;
    }
    this.tail.hold("reading");
    if (by !== "arrows" || WIDE.matches) this.#openDetails(row, by === "enter");
    this.askDraw();
  }

  #openDetails(row, focus) {
    const parent = byId("details");
    if (row.kind === "event") {
      showEvent(parent, row, {
        curlFrom: (lastId) => curlTail(this.#subscription, { lastId, withKey: this.credential.given }),
        onFilter: (part, value) => this.#go({ ...this.#subscription, [part]: [value] }),
      });
    } else {
      showMark(parent, row);
    }
    this.panel.open("details", row.kind === "event" ? row.type : `gateway.${row.kind}`, { focus });
    this.#markOpener();
  }

  #openForm(part) {
    this.list.selected = 0;
    this.panel.open(part, TITLES[part], { focus: true });
    this.#markOpener();
    this.tail.release("reading");
    this.askDraw();
  }

  #markOpener() {
    for (const part of ["publish", "access"]) {
      byId(`${part}-open`).setAttribute("aria-expanded", String(this.panel.shown === part));
    }
  }

  #panelClosed() {
    this.#markOpener();
    this.list.selected = 0;
    this.tail.release("reading");
    this.askDraw();
  }

  #scrolled(top) {
    if (top > 4 && this.tail.held === null) this.tail.hold("scrolled");
    else if (top <= 0) this.tail.release("scrolled");
    this.askDraw();
  }

  #togglePause() {
    if (this.tail.held === null) this.tail.hold("paused");
    else this.#follow();
    this.askDraw();
  }

  #follow() {
    if (this.panel.shown === "details") this.panel.close();
    this.tail.follow();
    this.askDraw();
  }

  // What is drawn

  #draw() {
    const shown = this.tail.draw();
    const { held, waiting, term } = this.tail;
    setText(byId("pause"), held === null ? "Pause" : "Resume");
    const rows = countOf(shown, "row") + (term === "" ? "" : ` with “${term}”`);
    const note = byId("tail-note");
    setText(note, held === null ? rows : `${held === "paused" ? "Paused" : "Held"} · ${rows}`);
    note.title = held === null ? "" : WHY_HELD[held];
    const newer = byId("newer");
    newer.hidden = waiting === 0;
    setText(newer, `${formatCount(waiting)} newer`);
    this.#drawEmpty(shown);
    this.counters.draw({ history: this.meter.history(), dropped: this.buffer.dropped });
  }

  #drawRate() {
    const history = this.meter.history();
    this.line.draw(history);
    this.counters.draw({ history, dropped: this.buffer.dropped });
  }

  #drawEmpty(shown) {
    const settled = this.client.state.name === "open" && !this.#replaying;
    const node = byId("empty");
    const reason = this.tail.term !== "" ? "term" : settled ? this.#subscription : null;
    const why = shown > 0 ? null : reason;
    byId("events").classList.toggle("is-empty", shown === 0);
    node.hidden = why === null;
    if (why === this.#emptyFor) return;
    this.#emptyFor = why;
    if (why === "term") node.replaceChildren(element("h2", {}, "No row in view contains this"));
    else if (why !== null) {
      showEmpty(node, {
        subscription: this.#subscription,
        onUnfilter: () => this.#go({ ...this.#subscription, types: [], channels: [] }),
      });
    }
  }
}
