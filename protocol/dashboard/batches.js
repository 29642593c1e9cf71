// Batches: how far each is.

import { Act, Ago, Bar, Component, Live, State, html } from "./view.js";
import * as api from "./api.js";
import { count } from "./format.js";

const PARTS = ["succeeded", "failed", "cancelled", "expired", "pending"];

// The state of a batch follows from those of its jobs.
function stateOf(batch) {
  const jobs = PARTS.reduce((sum, part) => sum + (batch[part] ?? 0), 0);
  if (batch.pending) return "running";
  if (batch.expired && batch.expired === jobs) return "expired";
  return batch.failed ? "failed" : batch.cancelled ? "cancelled" : "succeeded";
}

const Parts = ({ batch }) =>
  html`<${Bar} label=${PARTS.map((part) => `${part} ${batch[part] ?? 0}`).join(", ")} parts=${PARTS.map((part) => [part, batch[part] ?? 0])} />
    <p class="quiet">${PARTS.filter((part) => batch[part]).map((part) => `${count(batch[part])} ${part}`).join(", ")}</p>`;

export class Batches extends Live {
  load(signal) {
    return api.get("/batches", signal);
  }

  show({ batches }) {
    return html`<h1>Batches</h1>
      ${batches.length === 0 && html`<p class="quiet">No batch is kept.</p>`}
      ${batches.map(
        (batch) => html`<article class="card" key=${batch.id}>
          <h2><${State} state=${batch.state} /> <a class="mono" href=${`#/batch/${batch.id}`}>${batch.id.slice(8, 24)}</a></h2>
          <${Parts} batch=${batch} />
        </article>`,
      )}`;
  }
}

export class Batch extends Live {
  async load(signal) {
    return (await api.send("GET", api.path(["batches", this.props.id]), { signal, allow: [404, 410, 421, 424] })).json();
  }

  show(batch) {
    if (!batch.id) return html`<h1>Batch</h1><p class="fault">${batch.detail}</p>`;
    return html`<h1><${State} state=${stateOf(batch)} /> Batch</h1>
      <p class="mono wrap">${batch.id}</p>
      ${batch.detail && html`<p>${batch.detail}</p>`}
      <${Parts} batch=${batch} />
      ${batch.pending > 0 && html`<p class="acts"><${Act} kind="danger" confirm=${`Cancel ${batch.pending} jobs?`} act=${() => api.send("DELETE", api.path(["batches", this.props.id]))}>Cancel<//></p>`}
      <ul class="plain">
        ${(batch.jobs ?? []).map((job) => html`<li><${State} state=${job.state} /> <a class="mono" href=${`#/job/${job.id}`}>${job.id}</a></li>`)}
      </ul>`;
  }
}
