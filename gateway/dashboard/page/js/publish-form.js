/** Publishing one event by hand. The JSON goes out as it was typed: it is checked here, never printed anew. */

import { byId, setText } from "./dom.js";
import { fieldName, readProblem } from "./problem.js";

const FIELDS = ["type", "channel", "data"];

export class PublishForm {
  #key = "";
  #body = "";

  /**
   * @param {{url: string, credential: import("./credential.js").Credential, stream: () => string|undefined}} options
   */
  constructor({ url, credential, stream }) {
    this.url = url;
    this.credential = credential;
    this.stream = stream;
    this.form = byId("publish");
    this.fields = this.form.elements;
    this.result = byId("publish-result");
    this.send = byId("publish-send");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.fields.data.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
  }

  async #submit() {
    const found = this.#check();
    this.#showErrors(found);
    if (Object.keys(found).length > 0) {
      this.#say("", "");
      return;
    }
    this.send.disabled = true;
    this.#say("", "Publishing");
    try {
      await this.#post(this.#text());
    } catch {
      // The same press again carries the same key: it cannot publish twice.
      this.#say("bad", "The gateway could not be reached. Press again to retry.");
    } finally {
      this.send.disabled = false;
    }
  }

  #check() {
    const found = {};
    if (this.fields.type.value.trim() === "") found.type = "Give a type, such as sms.delivered.";
    const data = this.fields.data.value;
    if (data.trim() === "") {
      found.data = "Give a JSON value; {} will do.";
    } else {
      try {
        JSON.parse(data);
      } catch (error) {
        found.data = `Not JSON: ${error instanceof Error ? error.message : error}`;
      }
    }
    return found;
  }

  /** The request's body. The text of `data` has just been read as exactly one JSON value, so it can stand in another. */
  #text() {
    const parts = [`"type":${JSON.stringify(this.fields.type.value.trim())}`];
    const channel = this.fields.channel.value.trim();
    if (channel !== "") parts.push(`"channel":${JSON.stringify(channel)}`);
    const stream = this.stream();
    if (stream !== undefined) parts.push(`"stream":${JSON.stringify(stream)}`);
    parts.push(`"data":${this.fields.data.value.trim()}`);
    return `{${parts.join(",")}}`;
  }

  async #post(body) {
    if (body !== this.#body || this.#key === "") this.#key = randomKey();
    this.#body = body;
    const response = await fetch(this.url, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": this.#key, ...this.credential.headers() },
      body,
    });
    if (response.ok) {
      const answer = await response.json();
      this.#key = "";
      this.#say("good", `Published ${answer.ids[0]}`);
      return;
    }
    const problem = await readProblem(response);
    const found = {};
    for (const { field, message } of problem.errors) {
      const name = fieldName(field);
      if (FIELDS.includes(name)) found[name] = message;
    }
    this.#showErrors(found);
    const unplaced = problem.errors.filter(({ field }) => !FIELDS.includes(fieldName(field)));
    const words = unplaced.map(({ field, message }) => `${field}: ${message}`).join(" ");
    this.#say("bad", `Not published. ${words || (first(found) ? "See the field marked." : problem.detail)}`);
  }

  #showErrors(found) {
    for (const name of FIELDS) {
      setText(byId(`publish-${name}-error`), found[name] ?? "");
      this.fields[name].setAttribute("aria-invalid", String(name in found));
    }
    const name = first(found);
    if (name !== undefined) this.fields[name].focus();
  }

  #say(level, text) {
    this.result.dataset.level = level;
    setText(this.result, text);
  }
}

function first(found) {
  return FIELDS.find((name) => name in found);
}

/** 128 random bits; `crypto.randomUUID` is missing where the page came over plain HTTP. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
