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

async function refresh() {
  const state = byId("state");
  try {
    const ready = await fetch("/readyz?verbose");
    showChecks(await ready.text());
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
