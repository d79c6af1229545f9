"use strict";

const { events } = document.currentScript.dataset;
const element = (id) => document.getElementById(id);

element("watch").onclick = () => {
  const source = new EventSource(events);
  const stop = (text) => {
    source.close();
    element("event").textContent = text;
    element("watch").disabled = false;
  };
  element("watch").disabled = true;
  source.onmessage = (message) => {
    const facts = JSON.parse(message.data);
    element("progress").max = facts.count;
    element("progress").value = facts.event;
    element("event").textContent = `Event ${facts.event} of ${facts.count}, made at ${facts.time}`;
  };
  source.addEventListener("end", () => stop("That was all of them."));
  source.onerror = () => stop("The connection broke.");
};
