import { call, recordUrl, table } from "./api.js";
import { openDialog, say } from "./dialog.js";

/** The part of the client API that commands and forms use, with the shapes that Dynamics documents. */
export function installXrm(me) {
  const webResourceUrl = (name, data) =>
    `/%7b${me.version}%7d/WebResources/${name}${data ? `?data=${encodeURIComponent(data)}` : ""}`;

  async function navigateTo(page, options = {}) {
    const dialog = options.target === 2;
    switch (page.pageType) {
      case "webresource": {
        const url = webResourceUrl(page.webresourceName, page.data);
        if (dialog) {
          return openDialog(options.title ?? page.webresourceName, url, options);
        }
        location.href = `/main.aspx?pagetype=webresource&webresourceName=${encodeURIComponent(page.webresourceName)}` +
          (page.data ? `&data=${encodeURIComponent(page.data)}` : "");
        return undefined;
      }
      case "entityrecord":
        location.href = recordUrl(page.entityName, page.entityId);
        return undefined;
      case "entitylist":
        location.href = `/main.aspx?pagetype=entitylist&etn=${page.entityName}`;
        return undefined;
      default:
        throw new Error(`this stand-in does not know the page type ${page.pageType}`);
    }
  }

  window.Xrm = {
    Navigation: {
      navigateTo,
      openAlertDialog: (strings) => say(strings.title ?? "", strings.text),
      openForm: (options) => navigateTo({ pageType: "entityrecord", entityName: options.entityName, entityId: options.entityId }),
      openUrl: (url) => { window.open(url, "_blank", "noopener"); },
    },
    Utility: {
      getGlobalContext: () => ({
        getClientUrl: () => location.origin,
        getCurrentAppName: async () => "Loyalty",
        userSettings: {
          userId: `{${me.id.toUpperCase()}}`,
          userName: me.name,
          languageId: me.lcid,
          roles: { get: () => me.roles.map((name) => ({ name })) },
          getTimeZoneOffsetMinutes: () => -new Date().getTimezoneOffset(),
        },
      }),
    },
    WebApi: {
      retrieveRecord: async (name, id, options = "") => (await call(`${(await table(name)).set}(${id})${options}`)).body,
      retrieveMultipleRecords: async (name, options = "") => {
        const { body } = await call(`${(await table(name)).set}${options}`);
        return { entities: body.value, nextLink: body["@odata.nextLink"] };
      },
      createRecord: async (name, data) => {
        const answer = await call((await table(name)).set, { method: "POST", body: JSON.stringify(data) });
        return { entityType: name, id: answer.location.slice(-37, -1) };
      },
      updateRecord: async (name, id, data) => {
        await call(`${(await table(name)).set}(${id})`, { method: "PATCH", body: JSON.stringify(data) });
        return { entityType: name, id };
      },
    },
  };
  return { webResourceUrl };
}
