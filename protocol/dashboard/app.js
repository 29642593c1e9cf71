// The page: its frame, and the screen that the part of the URL behind # names.

import { Component, html, render } from "./view.js";
import * as api from "./api.js";
import * as pulse from "./pulse.js";
import { span } from "./format.js";
import { Overview } from "./overview.js";
import { Jobs } from "./jobs.js";
import { Job } from "./job.js";
import { Errors } from "./errors.js";
import { Tasks } from "./tasks.js";
import { Submit } from "./submit.js";
import { Workers } from "./workers.js";
import { Batch, Batches } from "./batches.js";

// By the first segment: the screen, and its name in the navigation if it has one.
const SCREENS = {
  "": [Overview, "Overview"],
  jobs: [Jobs, "Jobs"],
  job: [Job],
  errors: [Errors, "Errors"],
  tasks: [Tasks, "Tasks"],
  workers: [Workers, "Workers"],
  batches: [Batches, "Batches"],
  batch: [Batch],
  submit: [Submit, "Submit"],
};

// Return the segments and the query of the URL's fragment, such as #/jobs?state=failed.
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const segments = path.split("/").map((segment) => {
    try {
      return decodeURIComponent(segment);
    } catch {
      return segment;
    }
  });
  return { segments, query: Object.fromEntries(new URLSearchParams(query)) };
}

class App extends Component {
  state = { place: place() };

  componentDidMount() {
    addEventListener("hashchange", () => {
      this.setState({ place: place() });
      document.getElementById("main").focus();
      scrollTo(0, 0);
    });
    pulse.onHealth(() => this.setState({}));
    addEventListener("keydown", keys);
  }

  render(_, { place: { segments, query } }) {
    const [Screen, name] = SCREENS[segments[0]] ?? [Lost];
    document.title = `${name ?? segments[1] ?? "Lost"} · Headway`;
    return html`
      <header>
        <a class="brand" href="#/">Headway</a>
        <nav aria-label="Screens">
          ${Object.entries(SCREENS).map(
            ([path, [, name]]) =>
              name &&
              html`<a href=${`#/${path}`} aria-current=${segments[0] === path ? "page" : undefined}>${name}</a>`,
          )}
        </nav>
        <${Find} />
        <${Theme} />
      </header>
      <${Health} />
      <main id="main" tabindex="-1">
        <${Screen} key=${segments[0]} id=${segments[1]} query=${query} />
      </main>
      <dialog id="keys" aria-label="Keys">
        <h2>Keys</h2>
        <dl class="facts">
          ${KEYS.map(([key, does]) => html`<dt><kbd>${key}</kbd></dt><dd>${does}</dd>`)}
        </dl>
        <form method="dialog"><button>Close</button></form>
      </dialog>
      <dialog id="ask" aria-label="Are you sure?">
        <form method="dialog">
          <p></p>
          <button value="yes" class="danger">Yes</button> <button value="no" autofocus>No</button>
        </form>
      </dialog>
    `;
  }
}

const Lost = () => html`<h1>There is no such screen</h1>
  <p>Choose one above, or <a href="#/">begin with the overview</a>.</p>`;

// The server is away, or refuses this page.
class Health extends Component {
  signIn = (event) => {
    event.preventDefault();
    api.token.set(event.target.elements.token.value.trim());
    pulse.beat();
  };

  render() {
    const { awaySince, fault } = pulse.health;
    if (awaySince) {
      return html`<p class="banner" role="alert">
        The server has not answered for ${span((Date.now() - awaySince) / 1000)}. What is shown is from before. The page
        goes on by itself.
      </p>`;
    }
    if (fault?.status === 401 || fault?.status === 403) {
      return html`<form class="banner" role="alert" onSubmit=${this.signIn}>
        <label>The server asks for a token: <input name="token" type="password" autocomplete="off" /></label>
        <button>Sign in</button>
      </form>`;
    }
    return null;
  }
}

// Find a job by its id, its own key, or a tag.
class Find extends Component {
  find = async (event) => {
    event.preventDefault();
    const text = event.target.elements.text.value.trim();
    if (!text) return;
    event.target.reset();
    if (/^[0-9a-f]{40}$/i.test(text)) location.hash = `#/batch/${text}`;
    else if (/^[0-9a-f]{36}$/i.test(text) || !(await isTag(text))) location.hash = `#/job/${encodeURIComponent(text)}`;
    else location.hash = `#${api.path(["jobs"], { tag: text })}`;
  };

  render() {
    return html`<form class="find" role="search" onSubmit=${this.find}>
      <input id="find" name="text" aria-label="Find jobs by id, key or tag, or a batch by id" placeholder="id, key or tag ( / )" />
    </form>`;
  }
}

// Whether a text is the tag of a job. One that is no key of a job can be nothing else.
async function isTag(text) {
  if (!/^[\w.~-]{1,200}$/.test(text)) return true;
  const { jobs, next } = await api.get(api.path(["jobs"], { tag: text, limit: 1 })).catch(() => ({ jobs: [] }));
  return jobs.length > 0 || !!next;
}

// Light or dark: as the system has it, until a person chooses.
class Theme extends Component {
  turn = () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("headway-theme", document.documentElement.dataset.theme);
  };

  render() {
    return html`<button type="button" class="theme" aria-label="Light or dark" title="Light or dark" onClick=${this.turn}>
      ◐
    </button>`;
  }
}

// Keys as mail programs and code hosts have them.
let first = "";
const GOES = { o: "", j: "jobs", e: "errors", t: "tasks", w: "workers", b: "batches", s: "submit" };
const KEYS = [
  ["/", "find jobs by id, key or tag"],
  ["j, k", "the next job of a list, the one before"],
  ...Object.entries(GOES).map(([key, path]) => [`g ${key}`, SCREENS[path][1]]),
  ["?", "these keys"],
];
function keys(event) {
  if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    document.getElementById("find").focus();
  } else if (first === "g" && event.key in GOES) location.hash = `#/${GOES[event.key]}`;
  else if (event.key === "?") document.getElementById("keys").showModal();
  else if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  first = event.key;
}

// Go to the row after the one that has the focus, or before it.
function step(by) {
  const rows = [...document.querySelectorAll("a.row")];
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? 0 : Math.min(Math.max(at + by, 0), rows.length - 1)]?.focus();
}

const theme = localStorage.getItem("headway-theme");
if (theme) document.documentElement.dataset.theme = theme;
render(html`<${App} />`, document.getElementById("app"));
