// The API of the server that sent this page: the same that curl has. The page has no other way in.

import { setClock } from "./format.js";

// The page may stand under a path of its own (http.base_path).
export const base = new URL("./", document.baseURI).pathname.replace(/\/$/, "");

// A token is kept for this tab alone, and never in a URL or a page.
const TOKEN = "headway-token";

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (text) => (text ? sessionStorage.setItem(TOKEN, text) : sessionStorage.removeItem(TOKEN)),
};

// An answer of the server that is not the one asked for. `problem` is its document (RFC 9457).
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the server answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

// The server gave no answer.
export class Away extends Error {}

// Send a request, and return the response if its status is below 400. `path` begins with a slash.
export async function send(method, path, { body, headers = {}, signal, allow = [] } = {}) {
  const all = { Accept: "application/json", ...headers };
  if (token.get()) all.Authorization = `Bearer ${token.get()}`;
  let response;
  try {
    response = await fetch(base + path, { method, body, headers: all, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away("the server does not answer");
  }
  setClock(response.headers.get("Date"));
  if (response.status < 400 || allow.includes(response.status)) return response;
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // A proxy may have answered, in a form of its own.
  }
  throw new Refused(response.status, problem);
}

// Return the JSON of a path.
export async function get(path, signal, allow = []) {
  return (await send("GET", path, { signal, allow })).json();
}

// Send JSON, and return the response.
export function sendJson(method, path, value, headers = {}) {
  return send(method, path, {
    body: typeof value === "string" ? value : JSON.stringify(value),
    headers: { "Content-Type": "application/json", ...headers },
  });
}

// Return a path of the API with the members of a query that are set.
export function path(pieces, query = {}) {
  const set = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const text = new URLSearchParams(set).toString();
  return "/" + pieces.map(encodeURIComponent).join("/") + (text ? `?${text}` : "");
}
