// A call of the page as a program makes it.

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// `withKey`: the caller needs an API key, which is read from API_KEY.
export function asCurl(url, body, withKey) {
  const key = withKey ? ` -H "Authorization: Bearer $API_KEY" \\\n ` : "";
  return `curl -N ${quoted(url)} \\\n ${key} -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body, null, 2))}`;
}

export function asPython(url, body, withKey) {
  return `import json
${withKey ? "import os\n" : ""}
import requests

response = requests.post(
    ${JSON.stringify(url)},
${withKey ? "    headers={\"Authorization\": f\"Bearer {os.environ['API_KEY']}\"},\n" : ""}    json=${literal(body, "    ")},
    stream=True,
)
for line in response.iter_lines():
    if line.startswith(b"data: "):
        print(json.loads(line[6:]))
`;
}

function literal(value, indent) {
  const inner = `${indent}    `;
  if (Array.isArray(value)) return block("[", value.map((each) => literal(each, inner)), "]", indent);
  if (value === true) return "True";
  if (typeof value === "string") return JSON.stringify(value);
  const pairs = Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each, inner)}`);
  return block("{", pairs, "}", indent);
}

function block(opening, parts, closing, indent) {
  return [opening, ...parts.map((part) => `${indent}    ${part},`), indent + closing].join("\n");
}
