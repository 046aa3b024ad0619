// Texts go in by textContent only: what the daemon tells may hold names from uploaded files.
"use strict";

const byId = (id) => document.getElementById(id);

function showInfo(info) {
  const rows = [
    ["version", info.version],
    ["started", new Date(info.started_at).toLocaleString()],
    ["largest upload", `${Math.round(info.limits.body_bytes / 1048576)} MiB`],
  ];
  byId("info").replaceChildren(...rows.flatMap(([name, value]) => {
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = value;
    return [dt, dd];
  }));
}

function showChecks(text) {
  const lines = text.split("\n").filter((line) => line.startsWith("["));
  byId("ready").replaceChildren(...lines.map((line) => {
    const li = document.createElement("li");
    const good = line.startsWith("[+]");
    li.className = good ? "good" : "bad";
    li.textContent = `${good ? "passed" : "failed"}: ${line.slice(4)}`;
    return li;
  }));
}

function cell(text) {
  const td = document.createElement("td");
  td.textContent = text;
  return td;
}

function results(job) {
  const td = document.createElement("td");
  if (job.state === "failed") {
    td.textContent = job.error ? job.error.message : "";
  } else if (job.state === "succeeded") {
    const base = `/v1/jobs/${encodeURIComponent(job.id)}`;
    const links = [["model", "/artifacts/model.qdq.onnx"], ["report", "/report?format=text"],
                   ["calibration", "/calibration?format=csv"]];
    links.forEach(([label, path]) => {
      const a = document.createElement("a");
      a.href = base + path;
      a.textContent = label;
      td.append(a, " ");
    });
  }
  return td;
}

function showJobs(page) {
  byId("rows").replaceChildren(...page.data.map((job) => {
    const tr = document.createElement("tr");
    const state = cell(job.state);
    if (job.state === "succeeded") state.className = "good";
    if (job.state === "failed") state.className = "bad";
    const percent = job.progress.total > 0 ? `${Math.round(job.progress.fraction * 100)} %` : "";
    tr.append(cell(job.name), state, cell(job.phase ?? ""), cell(percent),
              cell(new Date(job.created_at).toLocaleString()), results(job));
    return tr;
  }));
}

async function refresh() {
  const state = byId("state");
  try {
    const ready = await fetch("/readyz?verbose");
    showChecks(await ready.text());
    const jobs = await fetch("/v1/jobs?limit=50");
    if (jobs.ok) showJobs(await jobs.json());
    const info = await fetch("/v1/info");
    showInfo(await info.json());
    state.textContent = ready.ok ? "ready" : "not ready";
    state.className = ready.ok ? "good" : "bad";
  } catch (error) {
    state.textContent = `no answer: ${error.message}`;
    state.className = "bad";
  }
}

refresh();
setInterval(refresh, 5000);
