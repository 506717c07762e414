// Starts `tickdsl lsp` for open plans; all that is known about the language is known there.
const { window, workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

exports.activate = async function () {
  const [command, ...args] = workspace.getConfiguration("tickdsl").get("command");
  client = new LanguageClient("tickdsl", "tickdsl", { command, args }, { documentSelector: [{ language: "tickdsl" }] });
  try {
    await client.start();
  } catch (error) {
    window.showErrorMessage(
      `tickdsl: \`${[command, ...args].join(" ")}\` does not start (${error.message}). ` +
        "Install it with: pip install 'tickdsl[lsp]', or set tickdsl.command."
    );
  }
};

exports.deactivate = () => client?.stop();
