// The seed of the chat page: one question, its answer as it comes.
const form = document.querySelector("#ask");
const answer = document.querySelector("#answer");

function show(event) {
  if (event.type === "token") answer.textContent += event.content;
  if (event.type === "error") answer.textContent += `\n${event.message}`;
}

// A session caller's POST carries Django's CSRF token.
function csrfToken() {
  return document.cookie.match(/csrftoken=([^;]+)/)?.[1] ?? "";
}

async function ask(message) {
  const response = await fetch("/api/agent/chat?stream=true", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": csrfToken() },
    body: JSON.stringify({ message }),
  });
  if (!response.ok) throw new Error((await response.json()).error);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const data = frame.split("\n").find((line) => line.startsWith("data: "));
      if (data) show(JSON.parse(data.slice(6)));
    }
  }
}

form.addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  answer.textContent = "";
  try {
    await ask(form.message.value);
  } catch (error) {
    answer.textContent = error.message;
  }
  button.disabled = false;
});
