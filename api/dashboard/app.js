// Routes of the page (#/, #/jobs/ID, #/models, #/daemon), the state of the daemon, live events.
import {h, getJson, notice, refreshTimes} from "./dom.js";
import {jobsPage} from "./jobs.js";
import {jobPage} from "./job.js";
import {modelsPage, daemonPage} from "./pages.js";

const main = document.getElementById("main");
const state = document.getElementById("state");

function showState(text, kind) {
  state.textContent = text;
  state.className = `pill ${kind}`;
}

/* --- live events: one stream a tab; without it the pages ask again every few seconds ---------- */

const listeners = new Set();
const EVENTS = ["job.queued", "job.running", "job.phase", "job.progress", "job.canceling",
                "job.succeeded", "job.failed", "job.canceled", "job.deleted"];
let source = null;

function tell(type, data) {
  for (const listener of listeners) listener(type, data);
}

function connect() {
  source = new EventSource("/v1/events");
  source.addEventListener("open", () => {
    showState("live", "good");
    tell("resync", null); // what happened while nobody listened
  });
  source.addEventListener("error", () => {
    showState(source.readyState === EventSource.CLOSED ? "polling" : "reconnecting", "warn");
    if (source.readyState === EventSource.CLOSED) { // refused: too many streams, or stopping
      setTimeout(connect, 15000);
    }
  });
  for (const type of EVENTS) {
    source.addEventListener(type, (event) => {
      let data = null;
      try {
        data = JSON.parse(event.data);
      } catch {
        return;
      }
      tell(type, data);
    });
  }
}

setInterval(async () => {
  if (source !== null && source.readyState === EventSource.OPEN) return;
  try {
    await getJson("/v1/info");
    tell("resync", null);
  } catch {
    showState("no answer", "bad");
  }
}, 5000);

setInterval(refreshTimes, 10000);

/* --- routes ----------------------------------------------------------------------------------- */

// A page is a function (root, subscribe) that fills root; subscribe(listener) lasts as long as it.
function route(hash) {
  const parts = hash.replace(/^#\/?/, "").split("/");
  if (parts[0] === "jobs" && parts[1]) {
    let id = parts[1];
    try {
      id = decodeURIComponent(id);
    } catch { /* the id is then unknown to the daemon, which says so */ }
    return {page: "jobs", title: id, show: (root, on) => jobPage(root, on, id)};
  }
  if (parts[0] === "models") return {page: "models", title: "Models", show: modelsPage};
  if (parts[0] === "daemon") return {page: "daemon", title: "Daemon", show: daemonPage};
  return {page: "jobs", title: "Jobs", show: jobsPage};
}

function show() {
  const target = route(location.hash);
  listeners.clear();
  document.title = `${target.title} · quantd`;
  for (const link of document.querySelectorAll("nav a")) {
    link.toggleAttribute("aria-current", link.dataset.page === target.page);
  }
  const root = h("div", {class: "page"});
  main.replaceChildren(root);
  const alive = () => root.isConnected;
  const subscribe = (listener) => listeners.add((type, data) => {
    if (alive()) listener(type, data);
  });
  Promise.resolve(target.show(root, subscribe)).catch((error) => {
    if (alive()) root.replaceChildren(notice(error.message, "bad"));
  });
}

window.addEventListener("hashchange", () => {
  show();
  window.scrollTo(0, 0);
});
show();
connect();
