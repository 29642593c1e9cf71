// The list of jobs. Its filters stand in the URL. Only the rows that can be seen are in the page.

import { Act, Ago, Component, Live, State, Took, ask, html } from "./view.js";
import * as api from "./api.js";
import { count, states, unfinished } from "./format.js";

// A page has the rows of the window.
const page = () => Math.ceil(innerHeight / ROW_PX) + 12;
const NEXT_PAGE = 250;
const ROW_PX = 36;
const MOST = 200_000;
const FIELDS = ["state", "task", "tag", "reason", "error", "submitted_after", "ended_after"];

// Return the part of a query that is a filter.
export const filterOf = (query) => Object.fromEntries(FIELDS.map((name) => [name, query[name]]).filter(([, value]) => value));

// The jobs that were read, newest first. At each beat the first page is read again, and those in the window that go on.
class Found {
  ids = [];
  jobs = new Map();
  // Pages after the first: their URL, and the place of their first job.
  pages = [];
  next = undefined;
  // Whether there are newer jobs than these, with others between.
  isBehind = false;

  first({ jobs, next }) {
    if (!this.pages.length) {
      // The reader has not scrolled: jobs that do not fit any more go.
      this.ids = jobs.map(({ id }) => id);
      this.jobs = new Map(jobs.map((job) => [job.id, job]));
      this.next = next;
      return;
    }
    const fresh = jobs.filter(({ id }) => !this.jobs.has(id));
    if (fresh.length === jobs.length && next) {
      this.isBehind = true;
      return;
    }
    this.set(jobs);
    this.ids.unshift(...fresh.map(({ id }) => id));
    for (const page of this.pages) page.at += fresh.length;
  }

  after(url, { jobs, next }) {
    const fresh = jobs.filter(({ id }) => !this.jobs.has(id));
    this.set(jobs);
    this.pages.push({ url, at: this.ids.length });
    this.ids.push(...fresh.map(({ id }) => id));
    this.next = next;
  }

  set(jobs) {
    for (const job of jobs) this.jobs.set(job.id, job);
  }

  // Return the URLs of the pages of which a job between two places has not ended.
  unfinished(from, to) {
    const seen = ({ at }, index) => at < to && (this.pages[index + 1]?.at ?? this.ids.length) > from;
    const goesOn = this.ids.slice(from, to).some((id) => unfinished.includes(this.jobs.get(id).state));
    return goesOn ? this.pages.filter(seen).map(({ url }) => url) : [];
  }
}

export class Jobs extends Live {
  found = new Found();
  window = [0, 0];

  asksFor({ query }) {
    return JSON.stringify(filterOf(query));
  }

  componentDidUpdate(before) {
    if (this.asksFor(before) !== this.asksFor(this.props)) this.found = new Found();
    super.componentDidUpdate(before);
  }

  async load(signal) {
    const { found } = this;
    const first = api.path(["jobs"], { ...filterOf(this.props.query), limit: page() });
    const urls = found.unfinished(...this.window);
    const [newest, ...others] = await Promise.all([first, ...urls].map((url) => api.get(url, signal)));
    for (const { jobs } of others) found.set(jobs.filter(({ id }) => found.jobs.has(id)));
    found.first(newest);
    return { found };
  }

  // The next page, when the reader comes near the end of what is there.
  more = async (from, to) => {
    const { found } = this;
    this.window = [from, to];
    if (this.reading || !found.next || to < found.ids.length || found.ids.length >= MOST) return;
    this.reading = true;
    const url = found.next.slice(api.base.length).replace(/([?&])limit=\d+/, `$1limit=${NEXT_PAGE}`);
    try {
      found.after(url, await api.get(url));
      this.setState({});
    } catch {
      // The pulse says it. It is read when the reader scrolls on.
    } finally {
      this.reading = false;
    }
  };

  renew = () => {
    this.found = new Found();
    scrollTo(0, 0);
    this.now();
  };

  set = (name, value) => {
    const query = { ...filterOf(this.props.query), [name]: value };
    location.hash = `#${api.path(["jobs"], query)}`;
  };

  show({ found }) {
    const filter = filterOf(this.props.query);
    const isFiltered = Object.keys(filter).length > 0;
    return html`
      <h1>Jobs</h1>
      <${Filters} filter=${filter} set=${this.set} />
      ${isFiltered && html`<${Bulk} filter=${filter} />`}
      ${found.isBehind && html`<p><button type="button" onClick=${this.renew}>There are newer jobs: show them</button></p>`}
      ${found.ids.length === 0 && !found.next
        ? html`<p class="quiet">No jobs fit. ${isFiltered ? html`<a href="#/jobs">Show all</a>` : html`<a href="#/submit">Submit one</a>`}</p>`
        : html`<${Rows} found=${found} seen=${this.more} />`}
      <p class="quiet" role="status">${count(found.ids.length)} shown${found.next ? ", more as you scroll" : ""}</p>
    `;
  }
}

class Filters extends Component {
  render({ filter, set }) {
    const change = (name) => (event) => set(name, event.target.value.trim());
    return html`<form class="filters" onSubmit=${(event) => event.preventDefault()}>
      <label>State <select value=${filter.state ?? ""} onChange=${change("state")}>
        <option value="">any</option>
        <option value="scheduled,queued,running,retrying">unfinished</option>
        ${states.map((state) => html`<option value=${state}>${state}</option>`)}
      </select></label>
      <label>Task <input value=${filter.task ?? ""} onChange=${change("task")} /></label>
      <label>Tag <input value=${filter.tag ?? ""} onChange=${change("tag")} /></label>
      <label>Reason <select value=${filter.reason ?? ""} onChange=${change("reason")}>
        <option value="">any</option>
        ${["error", "timeout", "crashed", "deadline", "invalid-payload", "interrupted"].map((reason) => html`<option>${reason}</option>`)}
      </select></label>
      <label>Error has <input value=${filter.error ?? ""} onChange=${change("error")} /></label>
      <label>Submitted since <input placeholder="1d, 30m" size="7" value=${filter.submitted_after ?? ""} onChange=${change("submitted_after")} /></label>
      ${Object.keys(filter).length > 0 && html`<a href="#/jobs">clear</a>`}
    </form>`;
  }
}

// Acts about all jobs that fit: first how many, then the question, then an order, which is a job.
export class Bulk extends Component {
  async order(action) {
    const { filter } = this.props;
    const dry = await (await api.send("POST", api.path(["jobs", action], { ...filter, "dry-run": 1 }))).json();
    if (!dry.matches) return "no job fits";
    const told = Object.entries(dry.by_task).map(([task, n]) => `${count(n)} of ${task}`).join(", ");
    if (!(await ask(`${action} ${count(dry.matches)} jobs: ${told}?`))) return "not done";
    const made = await (await api.send("POST", api.path(["jobs", action], filter))).json();
    location.hash = `#/job/${made.id}`;
    return "begun";
  }

  render({ filter, actions, which = "all that fit" }) {
    const only = filter.state?.split(",");
    const fits = { retry: ["failed"], cancel: states.slice(0, 4), delete: ["succeeded", "failed"] };
    return html`<p class="acts">
      ${(actions ?? ["retry", "cancel", "delete"])
        .filter((action) => !only || only.every((state) => fits[action].includes(state)))
        .map((action) => html`<${Act} kind=${action === "retry" ? "" : "danger"} act=${() => this.order(action)}>${action[0].toUpperCase() + action.slice(1)} ${which}…<//> `)}
    </p>`;
  }
}

// Rows of a table of any length: those in the window, and space for the others.
export class Rows extends Component {
  state = { from: 0, to: 60 };

  componentDidMount() {
    addEventListener("scroll", this.look, { passive: true });
    addEventListener("resize", this.look);
    this.look();
  }

  componentWillUnmount() {
    removeEventListener("scroll", this.look);
    removeEventListener("resize", this.look);
  }

  look = () => {
    const top = this.table?.getBoundingClientRect().top ?? 0;
    const from = Math.max(Math.floor(-top / ROW_PX) - 10, 0);
    const to = Math.max(Math.floor(-top / ROW_PX), 0) + Math.ceil(innerHeight / ROW_PX) + 10;
    if (from !== this.state.from || to !== this.state.to) this.setState({ from, to });
    this.props.seen(from, to);
  };

  // More may have come, and the window is still beyond them.
  componentDidUpdate() {
    this.look();
  }

  render({ found }, { from, to }) {
    const length = found.ids.length;
    const last = Math.min(to, length);
    return html`<div class="rows" role="table" ref=${(table) => (this.table = table)} aria-label="Jobs" aria-rowcount=${length}>
      <div role="row" class="row head">
        ${["State", "Task", "Job", "Submitted", "Took", "Tags"].map((name) => html`<span role="columnheader">${name}</span>`)}
      </div>
      <div style=${{ height: `${from * ROW_PX}px` }}></div>
      ${found.ids.slice(from, last).map((id) => found.jobs.get(id)).map(
        (job) => html`<a role="row" class="row" key=${job.id} href=${`#/job/${job.id}`}>
          <span role="cell"><${State} state=${job.state} />${job.state === "running" && job.progress !== undefined ? ` ${job.progress} %` : ""}</span>
          <span role="cell">${job.task}</span>
          <span role="cell" class="mono">${job.id.slice(-20)}</span>
          <span role="cell"><${Ago} at=${job.submitted} /></span>
          <span role="cell">${job.started ? html`<${Took} from=${job.started} to=${job.ended} />` : job.position !== undefined ? `${count(job.position)} ahead` : "–"}</span>
          <span role="cell" class="tags">${job.reason ? html`<em>${job.reason}</em> ` : ""}${(job.tags ?? []).join(", ")}</span>
        </a>`,
      )}
      <div style=${{ height: `${Math.max(length - last, 0) * ROW_PX}px` }}></div>
    </div>`;
  }
}
