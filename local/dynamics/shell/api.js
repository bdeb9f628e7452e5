const FORMATTED = "@OData.Community.Display.V1.FormattedValue";
const TARGET = "@Microsoft.Dynamics.CRM.lookuplogicalname";
const HEADERS = {
  Accept: "application/json",
  "OData-MaxVersion": "4.0",
  "OData-Version": "4.0",
  "Content-Type": "application/json",
  Prefer: 'odata.include-annotations="*"',
};

/** A call of the Web API; raises Error with the server's message. `match`: only a row that exists is changed. */
export async function call(path, { match, ...options } = {}) {
  const headers = match ? { ...HEADERS, "If-Match": match } : HEADERS;
  const answer = await fetch(`/api/data/v9.2/${path}`, { headers, ...options });
  if (answer.status === 401) {
    location.href = "/signin";
  }
  const body = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw new Error(body.error?.message ?? `Dataverse answers ${answer.status}.`);
  }
  return { body, location: answer.headers.get("OData-EntityId") };
}

const kept = new Map();

/** What the shell's server tells of a table. */
export function table(name) {
  if (!kept.has(name)) {
    kept.set(name, fetch(`/shell/table/${encodeURIComponent(name)}`).then((answer) => {
      if (!answer.ok) { throw new Error(`There is no table ${name}.`); }
      return answer.json();
    }));
  }
  return kept.get(name);
}

/** A column of a row as text, and what it links to: {text, link: {table, id} or null}. */
export function shown(row, column) {
  const lookup = `_${column}_value`;
  if (lookup in row || `${lookup}${FORMATTED}` in row) {
    const link = row[lookup] ? { table: row[lookup + TARGET], id: row[lookup] } : null;
    return { text: row[lookup + FORMATTED] ?? row[lookup] ?? "", link };
  }
  const value = row[column + FORMATTED] ?? row[column];
  return { text: value === null || value === undefined ? "" : String(value), link: null };
}

export const recordUrl = (name, id) => `/main.aspx?pagetype=entityrecord&etn=${name}&id=${id}`;
