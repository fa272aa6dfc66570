// Compiles src/*.sol to artifacts/*.json.
//
//   node build.mjs           writes artifacts/
//   node build.mjs --check   compiles and compares; names every file that differs, and fails if one does
//
// The artifacts are committed, so that `go build` needs no Node. Hence they must be the same on every machine: the
// compiler is pinned by the lock file, sources are named by their path below this folder (never an absolute one), keys
// are sorted, and the bytecode carries no metadata, so that a comment cannot move the hash of a genesis block.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const solc = createRequire(import.meta.url)("solc");

const root = path.dirname(fileURLToPath(import.meta.url));
const artifactsDir = path.join(root, "artifacts");

const settings = {
  evmVersion: "osaka", // the rules of the ledger
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  optimizer: { enabled: true, runs: 1000 },
  outputSelection: {
    "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode", "storageLayout"] },
  },
};

// resolveImport finds what a source imports: a package below node_modules, nothing else. Relative imports among our
// own sources do not get here, as all of src is given to the compiler.
function resolveImport(name) {
  if (!name.startsWith("@openzeppelin/")) return { error: `not to be imported: ${name}` };
  return { contents: readFileSync(path.join(root, "node_modules", name), "utf8") };
}

// compile returns the artifacts as text, by file name.
function compile() {
  const sources = {};
  for (const file of readdirSync(path.join(root, "src")).sort()) {
    sources[`src/${file}`] = { content: readFileSync(path.join(root, "src", file), "utf8") };
  }
  const input = { language: "Solidity", settings, sources };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: resolveImport }));
  // Warnings fail too: the one who causes them is the one who knows what they mean.
  const messages = (output.errors ?? []).filter((e) => e.severity !== "info");
  if (messages.length > 0) throw new Error(messages.map((e) => e.formattedMessage).join("\n"));

  const artifacts = new Map();
  for (const sourceName of Object.keys(sources)) {
    for (const [contractName, contract] of Object.entries(output.contracts[sourceName] ?? {})) {
      artifacts.set(`${contractName}.json`, format(artifact(sourceName, contractName, contract)));
    }
  }
  return artifacts;
}

function artifact(sourceName, contractName, contract) {
  const { bytecode, deployedBytecode } = contract.evm;
  const { outputSelection, ...compilerSettings } = settings;
  return {
    abi: contract.abi,
    bytecode: `0x${bytecode.object}`,
    compiler: { settings: compilerSettings, version: solc.version() },
    contractName,
    deployedBytecode: `0x${deployedBytecode.object}`,
    // Where the constructor fills in immutables: deployedBytecode is ready for a genesis block only if this is empty.
    immutables: Object.values(deployedBytecode.immutableReferences ?? {}).flat(),
    sourceName,
    storageLayout: contract.storageLayout.storage.map(({ label, offset, slot, type }) => ({
      label,
      offset,
      slot: Number(slot),
      type: contract.storageLayout.types[type].label,
    })),
  };
}

// format prints a value as JSON with sorted keys. Arrays keep their order, which for an ABI is the compiler's.
function format(value) {
  const sorted = (_, v) =>
    v !== null && typeof v === "object" && !Array.isArray(v)
      ? Object.fromEntries(Object.keys(v).sort().map((k) => [k, v[k]]))
      : v;
  return `${JSON.stringify(value, sorted, 2)}\n`;
}

function committed() {
  const files = new Map();
  for (const file of readdirSync(artifactsDir).sort()) {
    files.set(file, readFileSync(path.join(artifactsDir, file), "utf8"));
  }
  return files;
}

function check(built) {
  const have = committed();
  const stale = [...new Set([...built.keys(), ...have.keys()])]
    .sort()
    .filter((file) => built.get(file) !== have.get(file));
  for (const file of stale) console.error(`stale: contracts/artifacts/${file}`);
  if (stale.length > 0) {
    console.error("run `npm run build` and `go generate ./...` in contracts/ and commit what changes");
    process.exit(1);
  }
}

function write(built) {
  rmSync(artifactsDir, { force: true, recursive: true });
  mkdirSync(artifactsDir);
  for (const [file, text] of built) writeFileSync(path.join(artifactsDir, file), text);
}

const built = compile();
if (process.argv.includes("--check")) check(built);
else write(built);
