// The page shows the state of the sign-in, which the backend knows. What it sends here decides nothing.

const POLL_MS = 2_000;
const ENDINGS = {
  denied: ["You refused the sign-in on your phone", "If you did not start it, change your password. You can try again in a minute."],
  expired: ["Nobody answered in time", "Have your phone at hand and try again."],
  wrong_number: ["That was not the number", "For your security the sign-in has ended. You can try again in a minute."],
};

const find = (id) => document.getElementById(id);
// Counts the views. What was started for an earlier view must not change a later one.
let view = 0;

/** Shows one part of the page, and moves the focus there. */
function show({ state, identity }) {
  view += 1;
  const part = state in ENDINGS ? "ended" : state;
  for (const other of ["start", "waiting", "approved", "ended", "signed_in"]) find(other).hidden = other !== part;
  find("notice").textContent = state === "waiting" ? "Waiting for your phone …" : "";
  if (part === "ended") [find("reason").textContent, find("advice").textContent] = ENDINGS[state];
  if (state === "signed_in") find("name").textContent = identity;
  find("number").value = "";
  find(part).querySelector("input, [tabindex]")?.focus();
  if (state === "waiting") follow(view);
}

/** Waits for the answer on the stream. If the stream breaks, asks, and listens again if there is no answer yet. */
function follow(started) {
  const events = new EventSource("login/events");
  events.onmessage = ({ data }) => {
    events.close();
    if (started === view) show(JSON.parse(data));
  };
  events.onerror = async () => {
    events.close();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (started !== view) return;
    const login = await send("GET", "login");
    if (started !== view) return;
    if (login && login.state !== "waiting") show(login);
    else follow(started);
  };
}

/** Sends a request. Returns the JSON of the response, or null after an error, which it shows. */
async function send(method, path, body) {
  let text = "The sign-in cannot be reached. Try again.";
  try {
    const headers = { "Content-Type": "application/json" };
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    const json = response.status === 204 ? {} : await response.json();
    if (json.state || response.ok) return json;
    if (response.status === 404) show({ state: "start" });
    text = json.error;
  } catch {
    // Not reached, or no JSON: a proxy in between has answered.
  }
  find("notice").textContent = text;
  return null;
}

find("start").onsubmit = async (event) => {
  event.preventDefault();
  const login = await send("POST", "login", { identity: find("identity").value.trim() });
  if (login) show(login);
};

find("resend").onclick = async () => {
  const sent = await send("POST", "login/resend", {});
  if (sent) find("notice").textContent = "Sent again. Waiting for your phone …";
};

find("approved").onsubmit = async (event) => {
  event.preventDefault();
  const login = await send("POST", "login/number", { number: find("number").value });
  if (login) show(login);
};

for (const button of document.querySelectorAll(".cancel")) {
  button.onclick = async () => {
    if (await send("POST", "logout", {})) show({ state: "start" });
  };
}

// A reload continues a sign-in.
const response = await fetch("login").catch(() => null);
show(response?.ok ? await response.json() : { state: "start" });
