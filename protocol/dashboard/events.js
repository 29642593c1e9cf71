// Events of a job, read by fetch: an EventSource cannot send a token.

import * as api from "./api.js";

const AGAIN_MS = 2000;

// Call `onEvent(data)` at each event of a path, until the server ends them in order. Returns a function that ends this.
export function follow(path, onEvent) {
  const controller = new AbortController();
  read(path, onEvent, controller.signal);
  return () => controller.abort();
}

async function read(path, onEvent, signal) {
  let last = "";
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const response = await api.send("GET", path, { signal, headers });
      // 204: the job has ended, and the last event has been read.
      if (response.status !== 200) return;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const blocks = (rest + part.value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const fields = Object.fromEntries(block.split("\n").map(field));
          last = fields.id ?? last;
          if (fields.event === "state") onEvent(JSON.parse(fields.data));
        }
      }
    } catch (fault) {
      // A server that has too many readers, or no such job: the pulse tells it, and goes on.
      if (fault.status || signal.aborted) return;
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

// Return the name and the value of a line.
function field(line) {
  const at = line.indexOf(":");
  return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1).replace(/^ /, "")];
}
