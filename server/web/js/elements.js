/** Building and reconciling page elements. Data only ever becomes text or an attribute value, never markup. */

/**
 * A new element. `attributes` are set by setAttribute (null and false: left out, true: empty value).
 * @param {string} tag @param {Record<string, unknown>} attributes @param {...(Node|string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** A new SVG element, as `element`. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

/** Sets what differs, so that a screen reader is not told what has not changed. */
export function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value === true ? "" : value)) node.setAttribute(name, value === true ? "" : String(value));
  }
}

/** Text of a node; untouched where it is already so (keeps a reader's selection and place). */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Makes the children of `parent` show `items` in order. A child is kept for as long as its key is there, and moved only
 * when the order changes, so that the keyboard focus stays where it is. Gives the views in the order of `items`.
 * @param {Element} parent @param {any[]} items @param {(item: any) => string} keyOf
 * @param {(item: any) => {root: Element, update: (item: any) => void}} create
 */
export function reconcile(parent, items, keyOf, create) {
  const shown = views.get(parent) ?? new Map();
  views.set(parent, shown);
  const keys = new Set(items.map(keyOf));
  for (const [key, view] of shown) {
    if (!keys.has(key)) {
      view.root.remove();
      shown.delete(key);
    }
  }
  let place = parent.firstElementChild;
  return items.map((item) => {
    const key = keyOf(item);
    let view = shown.get(key);
    if (!view) {
      view = create(item);
      shown.set(key, view);
    }
    view.update(item);
    if (view.root === place) place = place.nextElementSibling;
    else parent.insertBefore(view.root, place);
    return view;
  });
}

const views = new WeakMap();

/** A canvas cleared, in device pixels: its `context`, `width`, `height` and pixels a CSS pixel; null while it has no size. */
export function blankSheet(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return null;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return { context, width, height, ratio };
}
