/** Where a key or token is entered, and forgotten again. */

import { byId, setText } from "./dom.js";

export class AccessForm {
  /** @param {{credential: import("./credential.js").Credential, onChange: () => void}} options */
  constructor({ credential, onChange }) {
    this.credential = credential;
    this.input = byId("access-token");
    this.forget = byId("access-forget");
    const change = (token) => {
      credential.set(token);
      this.input.value = "";
      this.complain("");
      this.show();
      onChange();
    };
    byId("access").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = this.input.value.trim();
      // Anything else cannot stand in a header, and fetch would throw.
      if (/^[\x21-\x7e]+$/.test(token)) change(token);
      else this.complain("Keys and tokens hold no blanks and no accents.");
    });
    this.forget.addEventListener("click", () => change(""));
    this.show();
  }

  /** @param {string} text  what is wrong with the key, "" for nothing */
  complain(text) {
    setText(byId("access-token-error"), text);
    this.input.setAttribute("aria-invalid", String(text !== ""));
  }

  show() {
    this.forget.hidden = !this.credential.given;
  }
}
