// What runs now, in which place, and since when.

import { Bar, Figure, Live, Took, html } from "./view.js";
import * as api from "./api.js";
import { count } from "./format.js";

// To read what runs costs the most of all. Times go on at each beat.
const REST_MS = 4000;

export class Workers extends Live {
  async load(signal) {
    if (this.state.data && performance.now() - this.readAt < REST_MS) return { ...this.state.data };
    this.readAt = performance.now();
    const [stats, { jobs }] = await Promise.all([
      api.get("/stats", signal),
      api.get("/jobs?state=running&limit=250", signal),
    ]);
    return { stats, jobs };
  }

  show({ stats, jobs }) {
    const { workers, processes, store } = stats;
    return html`<h1>Workers</h1>
      <dl class="figures">
        <${Figure} name="Busy" value=${`${count(workers.count - workers.idle)} / ${count(workers.count)}`} />
        <${Figure} name="Wanted" value=${count(stats.workers_wanted)} hint="so that all jobs begin in time" />
        <${Figure} name="Lost threads" value=${count(workers.lost_threads)} tone=${workers.lost_threads ? "bad" : ""} />
        ${processes && html`<${Figure} name="Processes" value=${count(processes.up)} hint=${`ids ${processes.pids.join(", ")}`} />
          <${Figure} name="Crashed" value=${count(processes.crashed)} tone=${processes.crashed ? "bad" : ""} />`}
        ${store && html`<${Figure} name="Nodes" value=${count(store.nodes)} hint="that share the queue; workers and processes are of this one" />`}
      </dl>
      <${Bar} label="Busy and idle workers" parts=${[["running", workers.count - workers.idle], ["idle", workers.idle]]} />
      ${processes?.pids.length > 0 && html`<p class="quiet">Processes ${processes.pids.join(", ")}. ${count(processes.recycled)} were replaced in order, ${count(processes.killed)} were killed.</p>`}
      <h2>Running now</h2>
      ${jobs.length === 0 && html`<p class="quiet">Nothing runs.</p>`}
      <table>
        ${jobs.length > 0 && html`<thead><tr><th>Task</th><th>Job</th><th>Attempt</th><th>Since</th><th>Progress</th></tr></thead>`}
        <tbody>
          ${jobs.map(
            (job) => html`<tr key=${job.id}>
              <td>${job.task}</td>
              <td><a class="mono" href=${`#/job/${job.id}`}>${job.id.slice(-20)}</a></td>
              <td>${job.attempt}</td>
              <td><${Took} from=${job.started} /></td>
              <td>${job.progress === undefined ? "" : `${job.progress} %`} ${job.message ?? ""}</td>
            </tr>`,
          )}
        </tbody>
      </table>`;
  }
}
