// One job: state and phases, error, result, files, layers.
import {h, getJson, jobPath, when, badge, bar, bytes, seconds, decimal, decibel, percent, headRow,
        notice, isFinal, NONE} from "./dom.js";
import {layersTable} from "./layers.js";

// In the order in which a job comes to them: ranges decide how static weights are stored, the other
// modes have their weights before samples are read.
const STATIC = ["validating", "folding", "pass1", "pass2", "searching", "weights", "exporting", "verifying"];
const WITHOUT_RANGES = ["validating", "folding", "weights", "pass1", "pass2", "bias", "exporting", "verifying"];

/* --- state ------------------------------------------------------------------------------------ */

function phases(job) {
  const times = job.summary?.phase_seconds ?? {};
  const twice = job.config?.calibration?.inference === "quantized"; // else pass 1 counts as well
  const names = ((job.config?.mode ?? "static") === "static" ? STATIC : WITHOUT_RANGES)
    .filter((name) => name !== "pass2" || twice);
  const now = names.indexOf(job.phase ?? "");
  const all = job.state === "succeeded";
  return h("ol", {class: "phases"}, names.map((name, i) => {
    const kind = all || i < now ? "done" : i === now ? (job.state === "running" ? "now" : "stopped") : "";
    return h("li", {class: kind, "aria-current": kind === "now" ? "step" : null},
      h("span", null, name), h("small", null, times[name] === undefined ? "" : seconds(times[name])));
  }));
}

function progress(job) {
  if (isFinal(job.state)) return null;
  const {fraction, done, total, unit} = job.progress;
  let text = job.phase ?? (job.state === "queued" ? "waiting" : "starting");
  if (job.state === "queued" && job.queue_position) text = `place ${job.queue_position} in the queue`;
  if (total > 0) text += `: ${done} of ${total} ${unit ?? ""} (${percent(fraction, 0)})`;
  return h("div", {class: "progress wide"}, bar(total > 0 ? fraction : 0, text, "active"), h("small", null, text));
}

function duration(job) {
  if (!job.started_at) return NONE;
  const end = job.finished_at ? new Date(job.finished_at) : new Date();
  return seconds((end - new Date(job.started_at)) / 1000);
}

function errorBox(job) {
  if (!job.error) return null;
  return h("section", {class: "panel error", role: "alert"},
    h("h2", null, job.state === "queued" ? "The attempt before failed" : "Error"),
    h("p", {class: "message"}, job.error.message ?? ""),
    h("dl", {class: "facts"}, fact("code", job.error.code), fact("class", job.error.class),
      job.error.subject ? fact("subject", job.error.subject) : null));
}

const fact = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value ?? NONE));

/* --- result ----------------------------------------------------------------------------------- */

const card = (title, value, note) =>
  h("div", {class: "card"}, h("span", {class: "label"}, title), h("strong", null, value),
    h("small", null, note ?? ""));

function cards(summary) {
  const output = summary.outputs?.[0] ?? {};
  const size = summary.bytes ?? {};
  const list = [];
  if (typeof output.sqnr_db === "number") {
    list.push(card("SQNR against f32", decibel(output.sqnr_db), `cosine ${decimal(output.cosine, 6)}`));
  }
  if (typeof output.top1_agreement === "number") {
    list.push(card("top-1 agreement", percent(output.top1_agreement),
      typeof output.top5_agreement === "number" ? `top-5 ${percent(output.top5_agreement)}` : ""));
  }
  if (typeof output.accuracy_int8 === "number") {
    list.push(card("accuracy INT8", percent(output.accuracy_int8),
      `f32 ${percent(output.accuracy_f32)}` +
      (typeof output.accuracy_ci95 === "number" ? `, ± ${(output.accuracy_ci95 * 100).toFixed(2)}` : "")));
  }
  list.push(card("size", bytes(size.out),
    `f32 ${bytes(size.in)}${size.out > 0 ? `, ${(size.in / size.out).toFixed(2)} times smaller` : ""}`));
  list.push(card("operators", `${summary.nodes?.int8 ?? NONE} INT8`, `${summary.nodes?.f32 ?? NONE} left in f32`));
  list.push(card("time", seconds(summary.total_seconds),
    `${summary.threads ?? NONE} threads, ${summary.isa ?? ""}`));
  return h("div", {class: "cards"}, list);
}

function outputsTable(outputs) {
  if (!Array.isArray(outputs) || outputs.length < 2) return null;
  return h("div", {class: "scroll"}, h("table", null,
    headRow("output", ["SQNR"], ["cosine"], ["largest error"], ["top-1 agreement"]),
    h("tbody", null, outputs.map((o) => h("tr", null,
      h("td", null, o.name), h("td", {class: "number"}, decibel(o.sqnr_db)),
      h("td", {class: "number"}, decimal(o.cosine, 6)), h("td", {class: "number"}, decimal(o.max_error, 4)),
      h("td", {class: "number"}, percent(o.top1_agreement)))))));
}

// Which data the numbers come from.
function data(summary) {
  const source = summary.verification_held_back ? "held back from them"
    : summary.verification_same ? "that calibrated too"
      : summary.n_calibration > 0 ? "others" : "samples";
  const texts = [summary.mode ? `mode ${summary.mode}` : null,
    summary.n_calibration > 0 ? `calibrated on ${summary.n_calibration} samples` : "without calibration",
    summary.n_verification > 0
      ? `verified on ${summary.n_verification} ${source}`
      : "not verified, so that no SQNR is known"];
  return texts.filter((t) => t !== null).join(", ");
}

// A warning that makes all figures worthless is not folded away.
function spoilsAll(warning) {
  return warning.startsWith("preprocessing is") || warning.startsWith("labels are wrong");
}

function result(job) {
  const summary = job.summary;
  if (!summary) return null;
  const warnings = Array.isArray(summary.warnings) ? summary.warnings : [];
  return h("section", null,
    h("h2", null, "Result"), cards(summary), outputsTable(summary.outputs),
    summary.gate_passed === false ? notice("The job is below its gate: its version is never the latest.", "bad") : null,
    h("p", {class: "note"}, data(summary)),
    warnings.length > 0
      ? h("details", {class: "warnings", open: warnings.length <= 3 || warnings.some(spoilsAll)},
          h("summary", null, `${warnings.length} warning${warnings.length > 1 ? "s" : ""}`),
          h("ul", null, warnings.map((w) => h("li", null, w))))
      : null);
}

const CALIBRATORS = ["auto", "mse", "minmax", "kl", "symmetric_kl", "js", "entropy"];

// Another calibrator from what this job has measured; nothing is calibrated again.
function derive(job) {
  const calibrator = h("select", {"aria-label": "Calibrator"},
    CALIBRATORS.map((c) => h("option", {value: c}, c)));
  const name = h("input", {type: "text", value: job.name, maxlength: 128, "aria-label": "Name"});
  const problem = h("div");
  const start = async (event) => {
    event.target.disabled = true;
    try {
      const made = await getJson(`${jobPath(job.id)}/requantize`, {
        method: "POST",
        headers: {"Content-Type": "application/json"},
        body: JSON.stringify({name: name.value, calibration: {calibrator: calibrator.value}}),
      });
      location.hash = `#/jobs/${encodeURIComponent(made.id)}`;
    } catch (error) {
      problem.replaceChildren(notice(error.message, "bad"));
    }
    event.target.disabled = false;
  };
  return h("section", null, h("h2", null, "From the same statistics"),
    h("div", {class: "derive"}, calibrator, name,
      h("button", {type: "button", on: {click: start}}, "Requantize")), problem,
    h("p", {class: "note"}, "A new job with this one's configuration and another calibrator. ",
      "It becomes the next version of its name."));
}

async function files(job) {
  const base = jobPath(job.id);
  const page = await getJson(`${base}/artifacts`);
  if (page.data.length === 0) return null;
  return h("section", null, h("h2", null, "Files"),
    h("div", {class: "scroll"}, h("table", null, headRow("name", ["size"], "SHA-256"),
      h("tbody", null, page.data.map((file) => h("tr", null,
        h("td", null, h("a", {href: `${base}/artifacts/${encodeURIComponent(file.name)}`}, file.name)),
        h("td", {class: "number"}, bytes(file.size)),
        h("td", null, h("code", {title: file.sha256}, `${file.sha256.slice(0, 16)}…`))))))),
    h("p", {class: "note"}, "As text: ",
      h("a", {href: `${base}/report?format=text`}, "report"), ", ",
      h("a", {href: `${base}/calibration?format=csv`}, "calibration table (CSV)")),
    page.data.some((file) => file.name === "statistics.qds") ? derive(job) : null);
}

/* --- actions ---------------------------------------------------------------------------------- */

function actions(job, reload, problem) {
  const act = (label, method, path, question) =>
    h("button", {type: "button", on: {click: async (event) => {
      if (question && !confirm(question)) return;
      event.target.disabled = true;
      try {
        await getJson(jobPath(job.id) + path, {method});
        if (method === "DELETE") location.hash = "#/";
        else reload();
      } catch (error) {
        problem.replaceChildren(notice(error.message, "bad"));
      }
      event.target.disabled = false;
    }}}, label);
  return h("div", {class: "actions"},
    ["queued", "running"].includes(job.state) ? act("Cancel", "POST", "/cancel") : null,
    ["failed", "canceled"].includes(job.state) ? act("Run again", "POST", "/retry") : null,
    isFinal(job.state) ? act("Delete", "DELETE", "", `Delete job ${job.id} and its files?`) : null);
}

/* --- page ------------------------------------------------------------------------------------- */

export async function jobPage(root, subscribe, id) {
  const head = h("div"), problem = h("div"), body = h("div"), rest = h("div");
  root.append(h("p", {class: "crumbs"}, h("a", {href: "#/"}, "Jobs"), " / ", h("code", null, id)),
    head, problem, body, rest);
  let job = null;
  let restOf = "";

  function paint() {
    document.title = `${job.name} ${job.state} · quantd`;
    head.replaceChildren(h("div", {class: "bar-row"}, h("h1", null, job.name), badge(job.state),
      actions(job, load, problem)));
    body.replaceChildren(...[
      h("section", {class: "panel"}, phases(job), progress(job),
        h("dl", {class: "facts"}, fact("attempt", String(job.attempt)), fact("version", job.version > 0 ? String(job.version) : NONE),
          job.derived_from ? fact("statistics of", h("a", {href: `#/jobs/${encodeURIComponent(job.derived_from)}`}, h("code", null, job.derived_from))) : null,
          fact("created", when(job.created_at)), fact("started", when(job.started_at)), fact("took", duration(job)))),
      errorBox(job), result(job)].filter((e) => e !== null));
  }

  // What never changes once it is there: asked for once an attempt.
  async function paintRest() {
    const key = `${job.state} ${job.attempt}`;
    if (key === restOf) return;
    restOf = key;
    const parts = [];
    if (job.state === "succeeded") {
      const page = await getJson(`${jobPath(id)}/layers`);
      if (page.data.length > 0) parts.push(layersTable(page.data));
      parts.push(await files(job));
    }
    parts.push(h("section", null, h("h2", null, "Configuration"),
      h("dl", {class: "facts"}, fact("model SHA-256", h("code", null, job.model_sha256))),
      h("pre", null, JSON.stringify(job.config, null, 2))));
    rest.replaceChildren(...parts.filter((e) => e !== null));
  }

  async function load() {
    try {
      const fresh = await getJson(jobPath(id));
      if (job !== null && fresh.rev < job.rev) return;
      job = fresh;
      problem.replaceChildren();
      paint();
      await paintRest();
    } catch (error) {
      restOf = ""; // the next change asks again
      problem.replaceChildren(notice(error.message, "bad"));
    }
  }

  let timer = 0;
  subscribe((type, data) => {
    if (type === "resync") {
      load();
    } else if (data?.id === id && type === "job.progress" && job !== null) {
      job = {...job, state: data.state, phase: data.phase, progress: data.progress, rev: data.rev};
      paint();
    } else if (data?.id === id) {
      clearTimeout(timer);
      timer = setTimeout(load, 50);
    }
  });
  await load();
}
