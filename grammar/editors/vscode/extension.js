// Starts the language server, `tickdsl lsp`, which provides everything except syntax highlighting.
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
      `tickdsl: \`${[command, ...args].join(" ")}\` failed to start (${error.message}). ` +
        "Run `pip install 'tickdsl[lsp]'`, or set tickdsl.command."
    );
  }
};

exports.deactivate = () => client?.stop();
