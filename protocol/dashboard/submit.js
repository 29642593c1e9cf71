// Submit a job by a form that is made of the task's JSON Schema.

import { Component, Copy, Live, html } from "./view.js";
import * as api from "./api.js";
import { bytes, plain } from "./format.js";

export class Submit extends Live {
  // The form is not made anew at each beat.
  asksFor({ id }) {
    return id ?? "";
  }

  async load(signal) {
    return this.state.data ?? (await api.get("/tasks", signal)).tasks;
  }

  show(tasks) {
    const task = tasks.find(({ name }) => name === this.props.id) ?? tasks[0];
    if (!task) return html`<h1>Submit</h1><p class="quiet">No task is declared.</p>`;
    return html`<h1>Submit a job</h1>
      <p><label>Task <select value=${task.name} onChange=${(event) => (location.hash = `#/submit/${encodeURIComponent(event.target.value)}`)}>
        ${tasks.map(({ name }) => html`<option value=${name} selected=${name === task.name}>${name}</option>`)}
      </select></label></p>
      <p class="quiet">${plain(task.description)}</p>
      <${Form} key=${task.name} task=${task} />`;
  }
}

// Follow a reference within the schema.
function resolved(schema, root) {
  let found = schema;
  for (let steps = 0; found?.$ref && steps < 16; steps += 1) {
    found = found.$ref.replace(/^#\//, "").split("/").reduce((at, name) => at?.[name.replace(/~1/g, "/").replace(/~0/g, "~")], root);
  }
  return found ?? {};
}

// Return the members of an object, each with a kind that has a field of its own; null if the whole is better typed as JSON.
function members(root) {
  const schema = resolved(root, root);
  if (schema.type !== "object" || !schema.properties) return null;
  return Object.entries(schema.properties).map(([name, part]) => {
    const own = resolved(part, root);
    const kinds = own.enum ? "enum" : { string: "string", integer: "number", number: "number", boolean: "boolean" }[own.type];
    return { name, own, kind: kinds ?? "json", required: schema.required?.includes(name) ?? false };
  });
}

// Whether the place of a fault is a field, or within its value.
const isIn = (place, id) => place === id || place.startsWith(`${id}.`) || place.startsWith(`${id}[`);

const bad = (place, detail) => Object.assign(new Error(detail), { problem: { errors: [{ field: place, detail }] } });

const listed = (text) => text.split(",").map((tag) => tag.trim()).filter(Boolean);

// Return a text as one word of a shell.
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

class Form extends Component {
  state = { faults: [], file: null };

  // Return the payload as JSON text. Numbers go as they were typed, so large ones stay exact.
  payload(form) {
    const fields = members(this.props.task.schema);
    if (!fields) {
      const text = form.elements.payload.value.trim() || "null";
      try {
        JSON.parse(text);
      } catch (error) {
        throw bad("payload", `this is not JSON: ${error.message}`);
      }
      return text;
    }
    const parts = [];
    for (const { name, kind, own, required } of fields) {
      const input = form.elements[`payload.${name}`];
      let text = kind === "boolean" ? String(input.checked) : input.value;
      if (text === "" && !required) continue;
      if (kind === "boolean" && !required && String(own.default ?? false) === text) continue;
      if (kind === "string") text = JSON.stringify(text);
      else if (kind === "enum") text = JSON.stringify(own.enum[Number(text)]);
      else {
        try {
          JSON.parse(text);
        } catch {
          throw bad(`payload.${name}`, kind === "number" ? "expected a number" : "this is not JSON");
        }
      }
      parts.push(`${JSON.stringify(name)}:${text}`);
    }
    return `{${parts.join(",")}}`;
  }

  submit = async (event) => {
    event.preventDefault();
    const form = event.target;
    this.setState({ faults: [], fault: undefined });
    try {
      if (!this.state.file && !this.props.task.accepts.json) throw new Error("this task takes a file: drop one or choose it");
      const made = await (this.state.file ? this.raw(form) : this.json(form));
      location.hash = `#/job/${made.id}`;
    } catch (error) {
      this.fail(form, error);
    }
  };

  fail(form, error) {
    const faults = error.problem?.errors ?? [];
    this.setState({ faults, fault: error.message });
    const first = [...form.elements].find((input) => input.name && faults.some(({ field }) => isIn(field, input.name)));
    first?.focus();
  }

  // Return the body of POST /jobs.
  body(form) {
    const { priority, delay, tags } = form.elements;
    const options = [`"task":${JSON.stringify(this.props.task.name)}`, `"payload":${this.payload(form)}`];
    if (priority.value !== "") options.push(`"priority":${priority.value}`);
    if (delay.value !== "") options.push(`"delay":${delay.value}`);
    const list = listed(tags.value);
    if (list.length) options.push(`"tags":${JSON.stringify(list)}`);
    return `{${options.join(",")}}`;
  }

  async json(form) {
    return (await api.sendJson("POST", "/jobs", this.body(form))).json();
  }

  url(form) {
    const { priority, delay, tags } = form.elements;
    const list = listed(tags.value).map(encodeURIComponent).join(",");
    const url = api.path(["tasks", this.props.task.name, "jobs"], { priority: priority.value, delay: delay.value });
    return list ? `${url}${url.includes("?") ? "&" : "?"}tags=${list}` : url;
  }

  // Return the same submission as a command, undefined if there is a fault.
  curl = (event) => {
    const { form } = event.currentTarget;
    const { file } = this.state;
    this.setState({ faults: [], fault: undefined });
    try {
      if (!file) return `curl ${quoted(location.origin + api.base)}/jobs --json ${quoted(this.body(form))}`;
      const type = quoted(`Content-Type: ${file.type || "application/octet-stream"}`);
      return `curl ${quoted(location.origin + api.base + this.url(form))} -H ${type} --data-binary ${quoted(`@${file.name}`)}`;
    } catch (error) {
      this.fail(form, error);
      return undefined;
    }
  };

  async raw(form) {
    const { file } = this.state;
    const headers = { "Content-Type": file.type || "application/octet-stream" };
    return (await api.send("POST", this.url(form), { body: file, headers })).json();
  }

  drop = (event) => {
    event.preventDefault();
    this.setState({ file: event.dataTransfer?.files[0] ?? event.target.files?.[0] ?? null, over: false });
  };

  field({ name, own, kind, required }) {
    const id = `payload.${name}`;
    const fault = this.state.faults.find(({ field }) => isIn(field, id));
    const described = { id, name: id, "aria-invalid": !!fault, "aria-describedby": `${id}-hint` };
    return html`<p class=${fault ? "field bad" : "field"}>
      <label for=${id}>${own.title && own.title.toLowerCase() !== name.toLowerCase() ? `${own.title} (${name})` : name}${required ? " *" : ""}</label>
      ${kind === "enum"
        ? html`<select ...${described}>${!required && html`<option value=""></option>`}${own.enum.map((value, index) => html`<option value=${index}>${String(value)}</option>`)}</select>`
        : kind === "boolean"
          ? html`<input type="checkbox" ...${described} checked=${own.default === true} />`
          : kind === "json"
            ? html`<textarea rows="3" ...${described} placeholder=${JSON.stringify(own.default) ?? "JSON"}></textarea>`
            : html`<input ...${described} inputmode=${kind === "number" ? "decimal" : undefined} placeholder=${own.default ?? ""} />`}
      <span id=${`${id}-hint`} class=${fault ? "fault" : "quiet"}>${fault?.detail ?? own.description ?? ""}</span>
    </p>`;
  }

  render({ task }, { faults, fault, file, over }) {
    const fields = members(task.schema);
    const rest = faults.filter(({ field }) => !fields?.some(({ name }) => isIn(field, `payload.${name}`)));
    return html`<form class="submit" onSubmit=${this.submit}>
      ${file
        ? html`<p>Content: <b>${file.name}</b> (${file.type || "application/octet-stream"}, ${bytes(file.size)}) <button type="button" onClick=${() => this.setState({ file: null })}>Remove</button></p>`
        : !task.accepts.json
          ? ""
          : fields
          ? fields.map((member) => this.field(member))
          : html`<p class="field"><label for="payload">Payload, JSON</label><textarea id="payload" name="payload" rows="6" placeholder="null"></textarea></p>`}
      ${task.accepts.content &&
      html`<label class=${over ? "drop over" : "drop"} onDrop=${this.drop} onDragOver=${(event) => (event.preventDefault(), this.setState({ over: true }))} onDragLeave=${() => this.setState({ over: false })}>
        Drop a file here as the payload, or choose one, up to ${bytes(task.accepts.body_bytes)} <input type="file" onChange=${this.drop} />
      </label>`}
      <details><summary>Options</summary>
        <p class="field"><label for="priority">Priority, 0 to 9</label><input id="priority" name="priority" inputmode="numeric" placeholder="5" /></p>
        <p class="field"><label for="delay">Delay in seconds</label><input id="delay" name="delay" inputmode="decimal" placeholder="0" /></p>
        <p class="field"><label for="tags">Tags, with commas between</label><input id="tags" name="tags" /></p>
      </details>
      ${fault && html`<p class="fault" role="alert">${fault}${rest.map(({ field, detail }) => html`<br />${field}: ${detail}`)}</p>`}
      <p><button class="primary">Submit</button> <${Copy} text=${this.curl}>Copy as curl<//></p>
    </form>`;
  }
}
