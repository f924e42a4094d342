/** Where a key or token is entered, and forgotten again. */

import { byId } from "./dom.js";

export class AccessForm {
  /** @param {{credential: import("./credential.js").Credential, onChange: () => void}} options */
  constructor({ credential, onChange }) {
    this.credential = credential;
    this.input = byId("access-token");
    this.forget = byId("access-forget");
    const change = (token) => {
      credential.set(token);
      this.input.value = "";
      this.show();
      onChange();
    };
    byId("access").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = this.input.value.trim();
      // Anything else cannot stand in a header, and fetch would throw.
      if (/^[\x21-\x7e]+$/.test(token)) change(token);
      else this.input.focus();
    });
    this.forget.addEventListener("click", () => change(""));
    this.show();
  }

  show() {
    this.forget.hidden = !this.credential.given;
  }
}
