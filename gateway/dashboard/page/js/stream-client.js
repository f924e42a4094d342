/**
 * One subscription over a real EventSource, kept alive without losing or repeating an event.
 *
 * The browser reconnects by itself after a cut (with the delay that the gateway chose, and `Last-Event-ID`). This
 * client does the rest: it opens a new EventSource, with the last position in the query, where the browser has given
 * up (any answer but 200, such as a proxy's 502), where a page comes back from the background or from the
 * back-forward cache with a connection that died without an error (iOS, Safari), and where the machine slept.
 *
 * @typedef {import("./problem.js").Problem} Problem
 * @typedef {{name: "idle"|"connecting"|"open"|"reconnecting"|"closed",
 *   retryAt?: number, reason?: string, problem?: Problem, slow?: boolean}} State  `retryAt` in ms since 1970
 */

import { readProblem } from "./problem.js";
import { joinQuery } from "./subscription.js";

const CONTROL = ["gateway.caught-up", "gateway.gap", "gateway.skipped", "gateway.closing", "gateway.position"];

/** Answers that will be the same next time: trying again would only be noise. */
const FINAL = new Set([400, 401, 403, 404, 405, 406, 410, 414, 422]);

const SLOW_AFTER = 6_000;
const STALE_AFTER = 20_000;
const TICK = 1_000;
const FIRST_DELAY = 1_000;
const LONGEST_DELAY = 30_000;
const PROBE_TIMEOUT = 8_000;

export class StreamClient {
  /** @type {EventSource|null} */
  #source = null;
  /** @type {[string, string][]} */
  #query = [];
  #lastId = "";
  #attempt = 0;
  #timer = 0;
  /** Rises with every change of connection: what began under another number no longer counts. */
  #generation = 0;
  #connectingSince = 0;
  #hiddenSince = 0;
  #lastTick = 0;
  /** @type {string|undefined} */
  #farewell;
  /** @type {State} */
  #state = { name: "idle" };

  /**
   * @param {{url: string, credential: import("./credential.js").Credential, onEvent: (text: string, id: string) => void,
   *   onControl: (name: string, data: any, text: string) => void, onState: (state: State) => void}} options
   */
  constructor({ url, credential, onEvent, onControl, onState }) {
    this.url = url;
    this.credential = credential;
    this.onEvent = onEvent;
    this.onControl = onControl;
    this.onState = onState;
    this.#watchPage();
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** Position of the last event or control event: what comes after it has not been seen yet. */
  get lastId() {
    return this.#lastId;
  }

  /** Starts anew with `query` (name, value pairs); the position of an earlier subscription is forgotten. */
  open(query) {
    this.#query = query;
    this.#lastId = "";
    this.#attempt = 0;
    this.#connect();
  }

  /** Goes on from the last position, now. */
  reopen() {
    this.#attempt = 0;
    this.#connect();
  }

  async #connect() {
    this.#drop();
    const generation = this.#generation;
    this.#connectingSince = Date.now();
    this.#setState({ name: "connecting" });
    const { query, problem } = await this.credential.admission();
    if (generation !== this.#generation) return;
    if (query === null) this.#giveUpOrRetry(problem);
    else this.#listen(query);
  }

  /** @param {[string, string][]} admission */
  #listen(admission) {
    const source = new EventSource(this.#address(admission));
    this.#source = source;
    const mine = (handle) => (event) => {
      if (source === this.#source) handle(event);
    };
    source.onopen = mine(() => this.#opened());
    source.onmessage = mine((event) => {
      this.#keepId(event);
      this.onEvent(event.data, event.lastEventId);
    });
    source.onerror = mine(() => this.#failed(source));
    for (const name of CONTROL) source.addEventListener(name, mine((event) => this.#control(name, event)));
  }

  /** @param {[string, string][]} [admission] */
  #address(admission = []) {
    const query = [...this.#query, ["named", "false"], ...admission];
    if (this.#lastId !== "") query.push(["last_event_id", this.#lastId]);
    return `${this.url}?${joinQuery(query)}`;
  }

  #keepId(event) {
    if (event.lastEventId !== "") this.#lastId = event.lastEventId;
  }

  #opened() {
    this.#attempt = 0;
    this.#farewell = undefined;
    this.#setState({ name: "open" });
  }

  #control(name, event) {
    this.#keepId(event);
    let data = {};
    try {
      data = JSON.parse(event.data);
    } catch {
      // shown as it came
    }
    this.onControl(name, data, event.data);
    if (name !== "gateway.closing") return;
    this.#farewell = String(data.reason);
    if (data.reconnect === false) this.#close(this.#farewell);
  }

  #failed(source) {
    if (source.readyState === EventSource.CONNECTING) {
      // The browser waits for the delay that the gateway gave it; script cannot read how long that is.
      this.#setState({ name: "reconnecting", reason: this.#farewell });
    } else {
      this.#drop();
      this.#diagnose();
    }
  }

  /**
   * EventSource does not tell why it gave up, so the same request is made once more by `fetch`. With a credential the
   * reason is as a rule that the browser sent the used ticket again: the next attempt gets a new one.
   */
  async #diagnose() {
    this.#setState({ name: "reconnecting" });
    const generation = this.#generation;
    /** @type {Problem|null} */
    let problem = null;
    try {
      const response = await fetch(this.#address(), {
        headers: { Accept: "text/event-stream", ...this.credential.headers() },
        cache: "no-store",
        signal: AbortSignal.timeout(PROBE_TIMEOUT),
      });
      if (response.ok) await response.body?.cancel();
      else problem = await readProblem(response);
    } catch {
      // not reachable: the delay grows
    }
    if (generation !== this.#generation) return;
    this.#giveUpOrRetry(problem);
  }

  /** @param {Problem|null} problem */
  #giveUpOrRetry(problem) {
    if (problem !== null && FINAL.has(problem.status)) this.#close(problem.detail, problem);
    else this.#retryLater(problem);
  }

  /** @param {Problem|null} problem */
  #retryLater(problem) {
    const grown = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#attempt);
    const asked = (problem?.retryAfter ?? 0) * 1000;
    // Spread out, or a thousand tabs would come back in the same instant.
    const delay = Math.max(asked, grown / 2) + Math.random() * (grown / 2);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.#setState({ name: "reconnecting", retryAt: Date.now() + delay, reason: problem?.detail, problem: problem ?? undefined });
  }

  /** @param {string} reason @param {Problem} [problem] */
  #close(reason, problem) {
    this.#drop();
    this.#setState({ name: "closed", reason, problem });
  }

  #drop() {
    this.#generation += 1;
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #setState(state) {
    this.#state = state;
    this.onState(state);
  }

  #watchPage() {
    document.addEventListener("visibilitychange", () => {
      const now = (this.#lastTick = Date.now());
      if (document.hidden) this.#hiddenSince = now;
      else this.#wake(now - this.#hiddenSince);
    });
    // A page in the back-forward cache must not hold one of the six connections.
    addEventListener("pagehide", () => this.#drop());
    addEventListener("pageshow", (event) => {
      if (event.persisted) this.#wake(Infinity);
    });
    addEventListener("online", () => this.#wake(Infinity));
    this.#lastTick = Date.now();
    setInterval(() => this.#tick(), TICK);
  }

  /** Opens anew after `away` ms in which the connection may have died unseen. What was closed for a reason stays so. */
  #wake(away) {
    if (["idle", "closed"].includes(this.#state.name)) return;
    const healthy = this.#source !== null && this.#source.readyState === EventSource.OPEN;
    if (!healthy || away > STALE_AFTER) this.reopen();
  }

  #tick() {
    const now = Date.now();
    const slept = now - this.#lastTick - TICK;
    this.#lastTick = now;
    // Timers of hidden pages are slowed to one a minute: only a visible page can tell that the machine slept.
    if (!document.hidden && slept > STALE_AFTER) this.#wake(slept);
    if (this.#state.name === "connecting" && !this.#state.slow && now - this.#connectingSince > SLOW_AFTER) {
      this.#setState({ ...this.#state, slow: true });
    }
  }
}
