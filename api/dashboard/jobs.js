// The list of jobs: filters, live rows, pages.
import {h, getJson, when, badge, bar, bytes, decibel, percent, headRow, notice, NONE, isFinal}
  from "./dom.js";

const PAGE = 50;

const link = (job) => `#/jobs/${encodeURIComponent(job.id)}`;

function progressCell(job) {
  if (job.state === "queued") {
    return job.queue_position ? `place ${job.queue_position} in the queue` : "waiting";
  }
  if (job.state === "failed") return h("span", {class: "bad clip"}, job.error?.message ?? "");
  if (isFinal(job.state)) return "";
  const {fraction, total} = job.progress;
  return h("span", {class: "progress"},
    bar(total > 0 ? fraction : 0, `${job.phase ?? "starting"} ${percent(fraction, 0)}`, "active"),
    h("small", null, `${job.phase ?? "starting"}${total > 0 ? ` ${percent(fraction, 0)}` : ""}`));
}

function row(job) {
  const output = job.summary?.outputs?.[0];
  const size = job.summary?.bytes;
  return h("tr", {"data-id": job.id},
    h("td", null, h("a", {href: link(job), class: "name"}, job.name),
      job.version > 0 ? h("small", null, ` v${job.version}`) : null),
    h("td", null, badge(job.state),
      job.summary?.gate_passed === false ? h("small", {class: "below"}, "below its gate") : null),
    isFinal(job.state) && job.state !== "failed"
      ? [h("td", {class: "number"}, decibel(output?.sqnr_db)),
         h("td", {class: "number"}, percent(output?.top1_agreement)),
         h("td", {class: "number"}, size ? `${bytes(size.in)} → ${bytes(size.out)}` : NONE)]
      : [h("td", {colspan: 3}, progressCell(job))],
    h("td", {class: "number"}, when(job.created_at)));
}

export async function jobsPage(root, subscribe) {
  const body = h("tbody");
  const empty = h("p", {class: "empty", hidden: true});
  const more = h("button", {type: "button", hidden: true}, "Older jobs");
  const state = h("select", {"aria-label": "State"},
    ["", "queued", "running", "succeeded", "failed", "canceled"].map((s) =>
      h("option", {value: s}, s || "all states")));
  const search = h("input", {type: "search", placeholder: "name or id", "aria-label": "Name or id",
                             maxlength: 100});
  const problem = h("div");
  root.append(
    h("div", {class: "bar-row"}, h("h1", null, "Jobs"), state, search), problem,
    h("div", {class: "scroll"}, h("table", {class: "jobs"},
      headRow("name", "state", ["SQNR"], ["top-1 agreement"], ["size"], ["created"]), body)),
    empty, more);

  const rows = new Map(); // id → {job, element}
  let cursor = null;
  let generation = 0;

  const put = (job) => {
    const old = rows.get(job.id);
    if (old && old.job.rev > job.rev) return; // an answer that was overtaken
    const element = row(job);
    old?.element.replaceWith(element);
    rows.set(job.id, {job, element});
  };

  async function load(after) {
    const mine = after ? generation : ++generation;
    const query = new URLSearchParams({limit: PAGE});
    if (state.value) query.set("state", state.value === "running" ? "running,canceling" : state.value);
    if (search.value.trim()) query.set("q", search.value.trim());
    if (after) query.set("cursor", after);
    try {
      const page = await getJson(`/v1/jobs?${query}`);
      if (mine !== generation) return;
      problem.replaceChildren();
      if (!after) {
        rows.clear();
        body.replaceChildren();
      }
      for (const job of page.data) {
        put(job);
        body.append(rows.get(job.id).element);
      }
      cursor = page.next_cursor;
      more.hidden = !page.has_more;
      empty.hidden = rows.size > 0;
      empty.textContent = state.value || search.value.trim()
        ? "No job matches." : "No jobs yet: submit one with curl -F model=@… -F calibration=@… /v1/jobs";
    } catch (error) {
      problem.replaceChildren(notice(error.message, "bad"));
    }
  }

  // Events come in bursts: one question each for what changed, not one for each event.
  const changed = new Set();
  let timer = 0;
  async function flush() {
    timer = 0;
    const ids = [...changed];
    changed.clear();
    for (const id of ids) {
      try {
        put(await getJson(`/v1/jobs/${encodeURIComponent(id)}`));
      } catch (error) {
        if (error.status === 404 && rows.has(id)) {
          rows.get(id).element.remove();
          rows.delete(id);
        }
      }
    }
  }

  subscribe((type, data) => {
    if (type === "resync" || type === "job.queued" || (state.value && type !== "job.progress")) {
      if (!cursor || rows.size <= PAGE) load(null);
      return;
    }
    if (type !== "job.progress" && type !== "job.phase") { // places in the queue have changed
      for (const [id, {job}] of rows) if (job.state === "queued") changed.add(id);
    }
    const known = data && rows.get(data.id);
    if (!known) return;
    if (type === "job.progress") {
      put({...known.job, phase: data.phase, progress: data.progress, rev: data.rev});
    } else {
      changed.add(data.id);
      timer = timer || setTimeout(flush, 100);
    }
  });
  state.addEventListener("change", () => load(null));
  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => load(null), 250);
  });
  more.addEventListener("click", () => load(cursor));
  await load(null);
}
