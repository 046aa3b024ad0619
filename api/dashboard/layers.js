// The table of a job's layers: SQNR as bars, sortable, the worst first.
import {h, bar, decimal, decibel, NONE} from "./dom.js";

// Below 15 dB a layer's noise is more than 3 % of its power, below 25 dB more than 0.3 %.
const quality = (db) => (db < 15 ? "poor" : db < 25 ? "fair" : "fine");

function sqnrCell(db, most) {
  if (typeof db !== "number") return h("td", {class: "sqnr none"}, NONE);
  return h("td", {class: "sqnr"}, h("span", {class: "with-bar"}, bar(db / most, decibel(db), quality(db)),
    h("span", {class: "value"}, decibel(db))));
}

const COLUMNS = [
  {key: "position", title: "#", number: true},
  {key: "node", title: "layer"},
  {key: "op", title: "operator"},
  {key: "precision", title: "precision"},
  {key: "local_sqnr_db", title: "local SQNR", number: true,
   hint: "error that this layer adds when its inputs are exact"},
  {key: "cumulative_sqnr_db", title: "cumulative SQNR", number: true,
   hint: "error at this layer with all layers before it quantized"},
  {key: "cosine", title: "cosine", number: true},
  {key: "max_abs_error", title: "largest error", number: true},
];

// Absent values come last in either direction.
function compare(a, b, key, down) {
  const x = a[key], y = b[key];
  const none = (v) => v === null || v === undefined || v === "";
  if (none(x) || none(y)) return none(x) - none(y);
  const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
  return down ? -order : order;
}

function layerRow(layer, most) {
  const number = (text) => h("td", {class: "number"}, text);
  return h("tr", null, number(String(layer.position)),
    h("td", {class: "layer"}, layer.node,
      layer.reason ? h("small", {class: "reason"}, layer.reason) : null),
    h("td", {class: "operator"}, layer.op ?? ""),
    h("td", null, h("span", {class: `precision ${layer.precision === "f32" ? "float" : "int8"}`}, (layer.precision ?? NONE).replaceAll("_", " "))),
    sqnrCell(layer.local_sqnr_db, most), sqnrCell(layer.cumulative_sqnr_db, most),
    number(decimal(layer.cosine, 6)), number(decimal(layer.max_abs_error, 4)));
}

export function layersTable(data) {
  const layers = data.map((layer, i) => ({...layer, position: i + 1}));
  const most = Math.max(1, ...layers.flatMap((l) => [l.local_sqnr_db, l.cumulative_sqnr_db])
    .filter((db) => typeof db === "number"));
  const body = h("tbody");
  const heads = new Map();
  let key = "local_sqnr_db";
  let down = false;

  function paint() {
    const sorted = [...layers].sort((a, b) => compare(a, b, key, down) || a.position - b.position);
    body.replaceChildren(...sorted.map((layer) => layerRow(layer, most)));
    for (const [name, th] of heads) {
      th.setAttribute("aria-sort", name === key ? (down ? "descending" : "ascending") : "none");
    }
  }

  const head = h("tr", null, COLUMNS.map((column) => {
    const th = h("th", {scope: "col", class: column.number ? "number" : null, title: column.hint},
      h("button", {type: "button", class: "sort", on: {click: () => {
        down = key === column.key ? !down : false;
        key = column.key;
        paint();
      }}}, column.title));
    heads.set(column.key, th);
    return th;
  }));
  paint();
  const floats = layers.filter((l) => l.precision === "f32").length;
  return h("section", null, h("h2", null, "Layers"),
    h("p", {class: "note"}, `${layers.length} layers, ${floats} of them left in f32; the worst by local SQNR first. ` +
      "Local: the layer alone, with exact inputs. Cumulative: with all layers before it."),
    h("div", {class: "scroll"}, h("table", {class: "layers"}, h("thead", null, head), body)));
}
