// Failed jobs in groups: those of one task with the same error.

import { Ago, Live, html } from "./view.js";
import { Bulk } from "./jobs.js";
import * as api from "./api.js";
import { count } from "./format.js";

export class Errors extends Live {
  load(signal) {
    return api.get(api.path(["errors"], { task: this.props.query.task }), signal);
  }

  show({ groups, looked_at: lookedAt }) {
    return html`<h1>Errors</h1>
      <p class="quiet">Of the last ${count(lookedAt)} failed jobs. Digits are left out of the comparison.</p>
      ${groups.length === 0 && html`<p>No failed job is kept.</p>`}
      ${groups.map(({ task, reason, error, count: times, last, example }) => {
        const filter = { state: "failed", task, reason, error: error || undefined };
        return html`<article class="card" key=${`${task} ${reason} ${error}`}>
          <h2><a href=${`#${api.path(["jobs"], filter)}`}>${count(times)} × ${task}</a> <em>${reason}</em></h2>
          <pre tabindex="0">${error}</pre>
          <p>The last one <${Ago} at=${last} />: <a class="mono" href=${`#/job/${example}`}>${example}</a></p>
          <${Bulk} filter=${filter} actions=${["retry", "delete"]} />
        </article>`;
      })}`;
  }
}
