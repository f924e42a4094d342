/** Copying text, also where the page came over plain HTTP and `navigator.clipboard` is missing. */

import { announce, element } from "./dom.js";

/** @returns {Promise<boolean>} whether `text` is on the clipboard */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** Makes `button` copy what `text()` gives, and say so for a moment. */
export function copyOnClick(button, text) {
  const label = button.textContent;
  let timer = 0;
  button.addEventListener("click", async () => {
    const copied = await copyText(text());
    button.style.minWidth = `${button.offsetWidth}px`;
    button.textContent = copied ? "Copied" : "Not copied";
    announce(copied ? "Copied" : "The browser did not allow copying");
    clearTimeout(timer);
    timer = setTimeout(() => {
      button.textContent = label;
    }, 1600);
  });
}

function copyBySelection(text) {
  const before = document.activeElement;
  const area = element("textarea", { value: text, className: "unseen", ariaHidden: "true" });
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (before instanceof HTMLElement) before.focus();
  return copied;
}
