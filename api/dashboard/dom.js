// Elements and texts. What the daemon tells may hold names from uploaded files: every text
// becomes a text node, nothing is ever parsed as HTML.

// h("a", {class: "x", href: "/"}, "text", child, …): null children are left out.
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export const jobPath = (id) => `/v1/jobs/${encodeURIComponent(id)}`;

export async function getJson(path, options) {
  const response = await fetch(path, options);
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(body.detail ?? `${path} answered ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return body;
}

/* --- numbers and times ------------------------------------------------------------------------ */

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
export const NONE = "–";

export const decimal = (value, digits) => (isNumber(value) ? value.toFixed(digits) : NONE);
export const percent = (value, digits = 2) =>
  isNumber(value) ? `${(value * 100).toFixed(digits)} %` : NONE;
export const decibel = (value) => (isNumber(value) ? `${value.toFixed(1)} dB` : NONE);

export function bytes(value) {
  if (!isNumber(value)) return NONE;
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function seconds(value) {
  if (!isNumber(value)) return NONE;
  if (value < 0.0995) return value < 0.0005 ? "0 ms" : `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(value % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function near(date) {
  const age = (Date.now() - date.getTime()) / 1000;
  if (age < 10) return "just now";
  if (age < 60) return `${Math.floor(age / 10) * 10} s ago`;
  if (age < 3600) return `${Math.floor(age / 60)} min ago`;
  if (age < 86400) return `${Math.floor(age / 3600)} h ago`;
  return date.toLocaleString();
}

// "3 min ago", with its full form as tooltip.
export function when(text) {
  if (!text) return NONE;
  const date = new Date(text);
  return h("time", {datetime: text, title: date.toLocaleString()}, near(date));
}

export function refreshTimes() {
  for (const element of document.querySelectorAll("time[datetime]")) {
    element.textContent = near(new Date(element.getAttribute("datetime")));
  }
}

/* --- parts that several pages have ------------------------------------------------------------ */

const STATES = ["queued", "running", "canceling", "succeeded", "failed", "canceled"];
export const isFinal = (state) => ["succeeded", "failed", "canceled"].includes(state);

export const badge = (state) =>
  h("span", {class: `badge ${STATES.includes(state) ? state : "queued"}`}, state);

// A bar filled to `fraction`; the label is read out, too.
export function bar(fraction, label, kind) {
  const fill = h("span", {class: "fill"});
  fill.style.width = `${Math.max(0, Math.min(1, fraction)) * 100}%`;
  return h("span", {class: `bar ${kind ?? ""}`, role: "img", "aria-label": label}, fill);
}

export const notice = (text, kind) => h("p", {class: `notice ${kind ?? ""}`, role: "alert"}, text);

export const headRow = (...titles) =>
  h("thead", null, h("tr", null, titles.map((t) =>
    typeof t === "string" ? h("th", {scope: "col"}, t) : h("th", {scope: "col", class: "number"}, t[0]))));
