// The tasks: their counts, rates and run times, and the two switches of each.

import { Act, Component, Live, html } from "./view.js";
import { Spark } from "./chart.js";
import * as api from "./api.js";
import { count, plain, short, span } from "./format.js";

const HISTORY_MS = 20_000;

export class Tasks extends Live {
  async load(signal) {
    const { tasks } = await api.get("/tasks", signal);
    if (!this.history || Date.now() - this.readAt > HISTORY_MS) {
      this.history = await api.get("/history?hours=1", signal);
      this.readAt = Date.now();
    }
    return { tasks, history: this.history.tasks };
  }

  show({ tasks, history }) {
    if (!tasks.length) return html`<h1>Tasks</h1><p class="quiet">No task is declared.</p>`;
    return html`<h1>Tasks</h1>
      <div class="cards">${tasks.map((task) => html`<${Task} key=${task.name} task=${task} ended=${history[task.name]?.ended ?? []} />`)}</div>`;
  }
}

const Quantiles = ({ of }) =>
  of.p50 === null ? "–" : html`${span(of.p50)}, p95 ${span(of.p95)}, p99 ${span(of.p99)}`;

// The jobs that ended in the last minutes that are over.
function rate(ended) {
  const last = ended.slice(-6, -1);
  return last.length ? `${short(last.reduce((sum, n) => sum + n, 0) / last.length)} a minute` : "–";
}

class Task extends Component {
  set = (change) => api.sendJson("PATCH", api.path(["tasks", this.props.task.name]), change);

  render({ task, ended }) {
    const { counts, options } = task;
    const held = task.dispatch === "hold";
    const closed = task.intake === "closed";
    const jobs = (query) => `#${api.path(["jobs"], { task: task.name, ...query })}`;
    return html`<article class=${held || closed ? "card held" : "card"}>
      <h2>${task.name}</h2>
      <p class="quiet">${plain(task.description) || " "}</p>
      ${(held || closed) && html`<p class="banner">${held ? "Its jobs wait. " : ""}${closed ? "It accepts no jobs. " : ""}${task.reason}</p>`}
      <${Spark} values=${ended} label=${`Jobs of ${task.name} that ended, by minute of the last hour`} />
      <dl class="facts">
        <dt>Waiting</dt><dd>${count(task.queue_length)}</dd>
        <dt>Running</dt><dd>${count(counts.running)}${options.max_concurrent ? ` of ${options.max_concurrent}` : ""}</dd>
        <dt>Succeeded</dt><dd><a href=${jobs({ state: "succeeded" })}>${count(counts.succeeded)}</a></dd>
        <dt>Failed</dt><dd><a href=${jobs({ state: "failed" })}>${count(counts.failed)}</a></dd>
        <dt>Runs for</dt><dd><${Quantiles} of=${task.run} /></dd>
        <dt>Waits for</dt><dd><${Quantiles} of=${task.wait} /></dd>
        <dt>Rate</dt><dd>${rate(ended)}</dd>
        <dt>Wait now</dt><dd>${span(task.queue_wait_ms / 1000)}</dd>
        <dt>Runs in</dt><dd>${options.run_in}, timeout ${span(options.timeout)}, ${count(options.retries)} retries</dd>
      </dl>
      <p class="acts">
        <${Act} confirm=${held ? "" : `Hold ${task.name}? Its jobs wait until you end this.`} act=${() => this.set({ dispatch: held ? "run" : "hold" })}>${held ? "Run" : "Hold"}<//>
        <${Act} confirm=${closed ? "" : `Close ${task.name}? Submissions are refused until you open it.`} act=${() => this.set({ intake: closed ? "open" : "closed" })}>${closed ? "Open" : "Close"}<//>
        <a href=${`#/submit/${encodeURIComponent(task.name)}`}>Submit…</a>
      </p>
    </article>`;
  }
}
