"use strict";

const { events, state } = document.currentScript.dataset;
const element = (id) => document.getElementById(id);
let source = null;

function note(text) {
  const log = element("log");
  log.textContent = `${new Date().toLocaleTimeString()}  ${text}\n${log.textContent}`.slice(0, 5000);
}

function show(facts) {
  element("active").textContent = facts.sse_active;
  element("left").textContent = facts.sse_left;
}

function join() {
  source = new EventSource(events);
  source.onopen = () => note("joined");
  source.onerror = () => note("the connection broke; the browser tries again");
  source.onmessage = (message) => {
    const facts = JSON.parse(message.data);
    element("event").textContent = facts.event;
    show(facts);
    note(`event ${facts.event}, made at ${facts.time}`);
  };
  element("switch").textContent = "Leave";
}

async function leave() {
  source.close();
  source = null;
  note("left");
  element("switch").textContent = "Join again";
  await new Promise((resolve) => setTimeout(resolve, 500)); // the news of it travels browser, web server, application
  show(await (await fetch(state)).json());
}

element("switch").onclick = () => (source ? leave() : join());
join();
