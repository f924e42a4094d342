/** Small helpers around the DOM. Text only ever becomes text nodes, never markup. */

/**
 * The element with this id; the page is wrong without it, so its absence is an error.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const node = document.getElementById(id);
  if (node === null) throw new Error(`no element #${id}`);
  return node;
}

/**
 * A new element. `properties` are DOM properties where the element has them, attributes otherwise.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node|string)} children
 * @returns {any}
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) /** @type {any} */ (node)[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Sets the text of `node` only when it differs: an equal write would still cost a layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Joins calls: `draw` runs in the next animation frame, but not before `pause` ms have gone by since it last ran.
 * The first call after a quiet time is therefore drawn at once.
 */
export function paced(draw, pause) {
  let asked = false;
  let last = -Infinity;
  const frame = () =>
    requestAnimationFrame((now) => {
      asked = false;
      last = now;
      draw();
    });
  return () => {
    if (asked) return;
    asked = true;
    const wait = last + pause - performance.now();
    if (wait > 0) setTimeout(frame, wait);
    else frame();
  };
}

const grouped = new Intl.NumberFormat("en");

/** 12345 as "12,345". */
export function formatCount(count) {
  return grouped.format(count);
}

/** "1 event", "2,000 events". */
export function countOf(count, noun) {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** Says `text` to screen readers, politely. For changes of state, never for single events. */
export function announce(text) {
  const announcer = byId("announcer");
  announcer.textContent = "";
  requestAnimationFrame(() => {
    announcer.textContent = text;
  });
}
