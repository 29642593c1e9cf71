// The list of jobs. Its filters stand in the URL. Only the rows that can be seen are in the page.

import { Act, Ago, Component, Fault, Live, State, Took, html } from "./view.js";
import * as api from "./api.js";
import * as pulse from "./pulse.js";
import { count, states } from "./format.js";

const PAGE = 100;
const ROW_PX = 36;
const MOST = 200_000;
const FIELDS = ["state", "task", "tag", "reason", "error", "submitted_after", "ended_after"];

// Return the part of a query that is a filter.
export const filterOf = (query) => Object.fromEntries(FIELDS.map((name) => [name, query[name]]).filter(([, value]) => value));

export class Jobs extends Live {
  state = { more: [], next: undefined };

  asksFor({ query }) {
    return JSON.stringify(filterOf(query));
  }

  componentDidUpdate(before) {
    if (this.asksFor(before) !== this.asksFor(this.props)) this.setState({ more: [], next: undefined, over: false });
    super.componentDidUpdate(before);
  }

  async load(signal) {
    const filter = filterOf(this.props.query);
    const page = await api.get(api.path(["jobs"], { ...filter, limit: PAGE }), signal);
    return page;
  }

  // The next page, when the reader comes near the end of what is there.
  more = async () => {
    if (this.reading) return;
    const { data, more, next, over } = this.state;
    const url = next ?? data?.next;
    if (over || !url || more.length >= MOST) return;
    this.reading = true;
    const asked = this.asksFor(this.props);
    try {
      const page = await (await api.send("GET", url.slice(api.base.length))).json();
      if (asked === this.asksFor(this.props)) {
        this.setState(({ more }) => ({ more: more.concat(page.jobs), next: page.next, over: !page.next }));
      }
    } finally {
      this.reading = false;
    }
  };

  set = (name, value) => {
    const query = { ...filterOf(this.props.query), [name]: value };
    location.hash = `#${api.path(["jobs"], query)}`;
  };

  show(data) {
    const { more, over } = this.state;
    const seen = new Set();
    const jobs = data.jobs.concat(more).filter((job) => !seen.has(job.id) && seen.add(job.id));
    const filter = filterOf(this.props.query);
    return html`
      <h1>Jobs</h1>
      <${Filters} filter=${filter} set=${this.set} />
      ${Object.keys(filter).length > 0 && html`<${Bulk} filter=${filter} />`}
      ${jobs.length === 0 && !data.next
        ? html`<p class="quiet">No jobs fit. ${Object.keys(filter).length ? html`<a href="#/jobs">Show all</a>` : html`<a href="#/submit">Submit one</a>`}</p>`
        : html`<${Rows} jobs=${jobs} end=${this.more} />`}
      <p class="quiet" role="status">${count(jobs.length)} shown${over || !data.next ? "" : ", more as you scroll"}</p>
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
    if (!(await (await import("./view.js")).ask(`${action} ${count(dry.matches)} jobs: ${told}?`))) return "not done";
    const made = await (await api.send("POST", api.path(["jobs", action], filter))).json();
    location.hash = `#/job/${made.id}`;
    return "begun";
  }

  render({ filter, actions }) {
    const only = filter.state?.split(",");
    const fits = { retry: ["failed"], cancel: states.slice(0, 4), delete: ["succeeded", "failed"] };
    return html`<p class="acts">
      ${(actions ?? ["retry", "cancel", "delete"])
        .filter((action) => !only || only.every((state) => fits[action].includes(state)))
        .map((action) => html`<${Act} kind=${action === "retry" ? "" : "danger"} act=${() => this.order(action)}>${action[0].toUpperCase() + action.slice(1)} all that fit…<//> `)}
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
    const top = this.base?.getBoundingClientRect?.().top ?? 0;
    const from = Math.max(Math.floor(-top / ROW_PX) - 10, 0);
    const to = from + Math.ceil(innerHeight / ROW_PX) + 20;
    if (from !== this.state.from || to !== this.state.to) this.setState({ from, to });
    if (to >= this.props.jobs.length) this.props.end?.();
  };

  render({ jobs }, { from, to }) {
    const last = Math.min(to, jobs.length);
    return html`<div class="rows" role="table" aria-label="Jobs" aria-rowcount=${jobs.length}>
      <div role="row" class="row head">
        ${["State", "Task", "Job", "Submitted", "Took", "Tags"].map((name) => html`<span role="columnheader">${name}</span>`)}
      </div>
      <div style=${{ height: `${from * ROW_PX}px` }}></div>
      ${jobs.slice(from, last).map(
        (job) => html`<a role="row" class="row" key=${job.id} href=${`#/job/${job.id}`}>
          <span role="cell"><${State} state=${job.state} />${job.state === "running" && job.progress !== undefined ? ` ${job.progress} %` : ""}</span>
          <span role="cell">${job.task}</span>
          <span role="cell" class="mono">${job.id.slice(-20)}</span>
          <span role="cell"><${Ago} at=${job.submitted} /></span>
          <span role="cell">${job.started ? html`<${Took} from=${job.started} to=${job.ended} />` : job.position !== undefined ? `${count(job.position)} ahead` : "–"}</span>
          <span role="cell" class="tags">${job.reason ? html`<em>${job.reason}</em> ` : ""}${(job.tags ?? []).join(", ")}</span>
        </a>`,
      )}
      <div style=${{ height: `${(jobs.length - last) * ROW_PX}px` }}></div>
    </div>`;
  }
}
