// Compiles DemoPass.sol into DemoPass.json. With --check it only says whether the file is up to date.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const folder = dirname(fileURLToPath(import.meta.url));
const target = join(folder, "DemoPass.json");

const input = {
  language: "Solidity",
  sources: { "DemoPass.sol": { content: readFileSync(join(folder, "DemoPass.sol"), "utf8") } },
  settings: {
    // Paris has no PUSH0, so the code also runs on chains that came to Shanghai late.
    evmVersion: "paris",
    optimizer: { enabled: true, runs: 200 },
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: { "*": { DemoPass: ["abi", "evm.bytecode.object"] } },
  },
};

const output = JSON.parse(solc.compile(JSON.stringify(input)));
const problems = (output.errors ?? []).map((e) => e.formattedMessage);
if (problems.length > 0) {
  console.error(problems.join("\n"));
  process.exit(1);
}
const { abi, evm } = output.contracts["DemoPass.sol"].DemoPass;
const compiled = JSON.stringify({ abi, bytecode: `0x${evm.bytecode.object}` }, null, 2) + "\n";

if (process.argv.includes("--check")) {
  if (readFileSync(target, "utf8") !== compiled) {
    console.error("integration/contracts/DemoPass.json is stale: run `just contracts`");
    process.exit(1);
  }
} else {
  writeFileSync(target, compiled);
}
