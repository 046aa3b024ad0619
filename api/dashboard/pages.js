// Models and their versions; the daemon.
import {h, getJson, when, bytes, headRow, NONE} from "./dom.js";

const modelPath = (name) => `/v1/models/${encodeURIComponent(name)}`;

function modelRow(model) {
  const latest = model.latest !== null;
  return h("tr", null,
    h("td", {class: "name"}, model.name),
    h("td", {class: "number"}, String(model.n_versions)),
    h("td", {class: "number"}, String(model.newest)),
    h("td", {class: "number"}, latest ? String(model.latest) : NONE),
    h("td", {class: "number"}, when(model.updated_at)),
    h("td", null, latest
      ? h("a", {href: `${modelPath(model.name)}/latest/artifacts/model.qdq.onnx`}, "model.qdq.onnx")
      : "no version passed its gate"));
}

export async function modelsPage(root, subscribe) {
  const body = h("tbody");
  const empty = h("p", {class: "empty", hidden: true},
    "No models yet: every job that succeeds is the next version of its name.");
  root.append(h("div", {class: "bar-row"}, h("h1", null, "Models")),
    h("div", {class: "scroll"}, h("table", null,
      headRow("name", ["versions"], ["newest"], ["latest that passed"], ["updated"], "download"), body)),
    empty);
  async function load() {
    const page = await getJson("/v1/models?limit=1000");
    body.replaceChildren(...page.data.map(modelRow));
    empty.hidden = page.data.length > 0;
  }
  subscribe((type) => {
    if (["resync", "job.succeeded", "job.deleted"].includes(type)) load().catch(() => {});
  });
  await load();
}

export async function daemonPage(root) {
  const info = await getJson("/v1/info");
  const checks = await (await fetch("/readyz?verbose")).text();
  const fact = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value));
  root.append(h("div", {class: "bar-row"}, h("h1", null, "Daemon")),
    h("section", {class: "panel"}, h("dl", {class: "facts"},
      fact("version", info.version), fact("started", when(info.started_at)),
      fact("largest upload", bytes(info.limits.body_bytes)))),
    h("section", null, h("h2", null, "Checks"),
      h("ul", {class: "checks"}, checks.split("\n").filter((line) => line.startsWith("[")).map((line) => {
        const good = line.startsWith("[+]");
        return h("li", {class: good ? "good" : "bad"}, `${good ? "passed" : "failed"}: ${line.slice(4)}`);
      }))),
    h("p", {class: "note"}, h("a", {href: "/openapi.json"}, "OpenAPI"), ", ",
      h("a", {href: "/metrics"}, "metrics")));
}
