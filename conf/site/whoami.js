// Asks which worker answers: that of the connection the browser keeps open, until it is gone.
"use strict";

const seen = new Map();

async function ask() {
  let answer;
  try {
    const response = await fetch("whoami", { cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    answer = await response.json();
  } catch (error) {
    document.getElementById("seen").textContent = `No answer: ${error.message}. The module builtin:whoami must be mounted at /whoami.`;
    return;
  }
  for (const key of ["worker", "pid", "generation", "version"])
    document.getElementById(key).textContent = answer[key];
  for (const element of document.querySelectorAll(".pid"))
    element.textContent = answer.pid;
  seen.set(answer.worker, (seen.get(answer.worker) || 0) + 1);
  const counts = [...seen].sort((a, b) => a[0] - b[0]).map(([worker, n]) => `worker ${worker}: ${n}`);
  document.getElementById("seen").textContent = counts.join(", ");
}

document.getElementById("ask").addEventListener("click", ask);
ask();
