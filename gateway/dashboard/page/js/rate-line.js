/** Events per second as a line: one path over 120 whole seconds, drawn once a second. Colours come from the theme. */

import { formatCount, setText } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 100;
const STEPS = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

export class RateLine {
  /** @param {HTMLElement} figure */
  constructor(figure) {
    const find = (selector) => /** @type {any} */ (figure.querySelector(selector));
    this.svg = find("svg");
    this.stroke = find(".rate-stroke");
    this.area = find(".rate-area");
    this.top = find(".rate-label-top");
  }

  /** @param {number[]} history counts of whole seconds, oldest first */
  draw(history) {
    const peak = Math.max(...history);
    const scale = roundScale(peak);
    const x = (at) => ((at / (history.length - 1)) * WIDTH).toFixed(2);
    const y = (count) => (HEIGHT - (count / scale) * HEIGHT).toFixed(2);
    const line = history.map((count, at) => `${at === 0 ? "M" : "L"}${x(at)} ${y(count)}`).join("");
    this.stroke.setAttribute("d", line);
    this.area.setAttribute("d", `${line}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
    setText(this.top, `${formatCount(scale)}/s`);
    const now = history.at(-1) ?? 0;
    this.svg.setAttribute(
      "aria-label",
      `Events per second over the last two minutes: ${formatCount(now)} now, at most ${formatCount(peak)}`,
    );
  }
}

/** The next round number that is at least `peak`: a scale that does not tremble. */
function roundScale(peak) {
  if (peak <= 5) return 5;
  const power = 10 ** Math.floor(Math.log10(peak));
  return (STEPS.find((step) => step * power >= peak) ?? 10) * power;
}
