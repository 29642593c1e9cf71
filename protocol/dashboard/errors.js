// Failed jobs in groups: those of one task with the same error, but for digits.

import { Ago, Live, html } from "./view.js";
import { Bulk } from "./jobs.js";
import * as api from "./api.js";
import { count } from "./format.js";

const PAGE = 250;
const PAGES = 4;

// Return the groups of failed jobs, the largest first.
function grouped(jobs) {
  const groups = new Map();
  for (const { task, reason, error = "", ended, id } of jobs) {
    const like = error.replace(/\d+/g, "#");
    const key = JSON.stringify([task, reason, like]);
    const group = groups.get(key) ?? { key, task, reason, error, parts: like, times: 0, last: ended, example: id };
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
  async load(signal) {
    let jobs = [];
    let url = api.path(["jobs"], { state: "failed", task: this.props.query.task, limit: PAGE });
    for (let page = 0; url && page < PAGES; page += 1) {
      const found = await api.get(url, signal);
      jobs = jobs.concat(found.jobs);
      url = found.next?.slice(api.base.length);
    }
    return { groups: grouped(jobs), looked: jobs.length, more: !!url };
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
          <${Bulk} filter=${filter} actions=${["retry", "delete"]} />
        </article>`;
      })}`;
  }
}
