// Failed jobs in groups: those of one task with the same error, but for digits.

import { Ago, Live, html } from "./view.js";
import { Bulk } from "./jobs.js";
import * as api from "./api.js";
import { count } from "./format.js";

const PAGE = 250;
const PAGES = 4;
// Milliseconds between two looks at all of them, at least and at most.
const REST_MS = 20_000;
const LONGEST_MS = 120_000;

// Return the groups of failed jobs, the largest first.
function grouped(jobs) {
  const groups = new Map();
  for (const { task, reason, error = "", ended, id } of jobs) {
    const like = error.replace(/\d+/g, "#");
    const key = JSON.stringify([task, reason, like]);
    const group = groups.get(key) ?? { key, task, reason, error, times: 0, last: ended, example: id };
    group.times += 1;
    groups.set(key, group);
  }
  return [...groups.values()].sort((one, other) => other.times - one.times);
}

// Return the longest text without digits in an error: the filter that finds those like it.
function common(error) {
  return error.split(/\d+|\n/).reduce((longest, part) => (part.length > longest.length ? part : longest), "").trim();
}

export class Errors extends Live {
  // All are read when another one has failed, and now and then, since some may have been forgotten.
  async load(signal) {
    const filter = { state: "failed", task: this.props.query.task };
    const had = this.state.data;
    if (had && performance.now() - this.readAt < REST_MS) return had;
    if (had && performance.now() - this.readAt < LONGEST_MS) {
      const { jobs } = await api.get(api.path(["jobs"], { ...filter, limit: 1 }), signal);
      if (jobs[0]?.id === had.last) return had;
    }
    let jobs = [];
    let url = api.path(["jobs"], { ...filter, limit: PAGE });
    for (let page = 0; url && page < PAGES; page += 1) {
      const found = await api.get(url, signal);
      jobs = jobs.concat(found.jobs);
      url = found.next?.slice(api.base.length);
    }
    this.readAt = performance.now();
    return { groups: grouped(jobs), looked: jobs.length, more: !!url, last: jobs[0]?.id };
  }

  show({ groups, looked, more }) {
    return html`<h1>Errors</h1>
      ${groups.length === 0
        ? html`<p>No failed job is kept.</p>`
        : html`<p class="quiet">${more ? `The last ${count(looked)}` : `All ${count(looked)}`} failed jobs, by task and error. Digits are passed over.</p>`}
      ${groups.map(({ key, task, reason, error, times, last, example }) => {
        const filter = { state: "failed", task, reason, error: common(error) || undefined };
        return html`<article class="card" key=${key}>
          <h2><a href=${`#${api.path(["jobs"], filter)}`}>${count(times)} × ${task}</a> <em>${reason}</em></h2>
          ${error && html`<pre tabindex="0">${error}</pre>`}
          <p>The last one <${Ago} at=${last} />: <a class="mono wrap" href=${`#/job/${example}`}>${example}</a></p>
          <${Bulk} filter=${filter} actions=${["retry", "delete"]} which="all like this" />
        </article>`;
      })}`;
  }
}
