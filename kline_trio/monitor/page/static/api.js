// Asks the API. All addresses are relative: the page may be served below a path.

export const BASE = new URL("api/v1/", document.baseURI).href;

/** An answer that is no success. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return the address of an endpoint. A list gives a parameter several times; null leaves it out. */
export function address(name, parameters = {}) {
  const url = new URL(name, BASE);
  for (const [key, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "")
        url.searchParams.append(key, String(one));
    }
  }
  return url.href;
}

/** Return the JSON of an endpoint. Raise ApiError if the server refuses, TypeError if it is gone. */
export async function get(name, parameters = {}, signal = undefined) {
  const response = await fetch(address(name, parameters), {
    signal,
    headers: { Accept: "application/json" },
    credentials: "same-origin",
  });
  if (response.status === 401) {
    // The server asks for the token on the page itself.
    location.reload();
  }
  if (!response.ok) {
    let text = `HTTP ${response.status}`;
    try {
      text = (await response.json()).error ?? text;
    } catch {
      // The body is no JSON: the status has to do.
    }
    throw new ApiError(response.status, text);
  }
  return response.json();
}

/** Whether an error is only the end of a request that nobody waits for any more. */
export function isAborted(error) {
  return error instanceof DOMException && error.name === "AbortError";
}
