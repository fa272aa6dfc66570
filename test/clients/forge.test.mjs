// ledgerd as Foundry's forge sees it: create, script and tests on a fork. cast is in cast.test.mjs.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { Contract, JsonRpcProvider, getCreateAddress } from 'ethers'
import { CHAIN_ID, accounts, startNode } from './node.mjs'

const run = promisify(execFile)
const here = import.meta.dirname
// The program itself: npm's wrapper around it ends with 0 whatever happened.
const arch = process.arch === 'x64' ? 'amd64' : process.arch
const binary = join(here, `node_modules/@foundry-rs/forge-${process.platform}-${arch}/bin/forge`)
const [alice, bob] = accounts
const abi = ['function count() view returns (uint256)', 'function increment(uint256)', 'event Incremented(address indexed by, uint256 count)']

// What is needed of forge-std, which npm does not have.
const cheats = `
interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
    function envAddress(string calldata) external view returns (address);
    function prank(address) external;
    function expectRevert(bytes4) external;
    function rollFork(uint256) external;
}
Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
`

let node, provider, dir, counter

/** Runs forge in the project and returns what it printed. */
async function forge(args, env = {}) {
  try {
    const { stdout } = await run(binary, args, {
      cwd: dir,
      env: { ...process.env, ETH_RPC_URL: node.http, FOUNDRY_DISABLE_NIGHTLY_WARNING: '1', NO_COLOR: '1', HOME: dir, ...env },
      timeout: 100_000,
    })
    return stdout
  } catch (err) {
    throw new Error(`forge ${args.join(' ')}: ${err.message}\n${err.stdout}`)
  }
}

before(async () => {
  node = await startNode()
  provider = new JsonRpcProvider(node.http, CHAIN_ID, { staticNetwork: true, cacheTimeout: -1 })
  dir = mkdtempSync(join(tmpdir(), 'ledgerd-forge-'))
  for (const folder of ['src', 'test', 'script']) mkdirSync(join(dir, folder))
  writeFileSync(join(dir, 'foundry.toml'), `[profile.default]\nsolc = "${join(here, 'solc.mjs')}"\nevm_version = "osaka"\noffline = true\nlibs = []\n`)
  copyFileSync(join(here, 'hardhat/contracts/Counter.sol'), join(dir, 'src/Counter.sol'))
  writeFileSync(join(dir, 'script/Count.s.sol'), `// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;
import {Counter} from "../src/Counter.sol";
${cheats}
contract Count {
    bool public constant IS_SCRIPT = true;

    function run() external {
        vm.startBroadcast();
        Counter counter = new Counter(1);
        for (uint256 i = 1; i <= 5; i++) counter.increment(i);
        vm.stopBroadcast();
        require(counter.count() == 16, "counted wrong");
    }
}
`)
  writeFileSync(join(dir, 'test/Fork.t.sol'), `// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;
import {Counter} from "../src/Counter.sol";
${cheats}
contract ForkTest {
    bool public constant IS_TEST = true;
    Counter private counter = Counter(vm.envAddress("COUNTER"));

    function test_state() external view {
        require(block.chainid == ${CHAIN_ID}, "chain id");
        require(counter.count() == 8, "count");
        require(${bob.address}.balance > 0, "balance");
    }

    function test_change() external {
        vm.prank(${bob.address});
        counter.increment(1);
        require(counter.count() == 9, "count");
    }

    function test_revert() external {
        vm.expectRevert(Counter.CounterNothingToDo.selector);
        counter.increment(0);
    }

    function test_past() external {
        vm.rollFork(block.number - 1);
        require(counter.count() == 7, "count before");
    }
}
`)
})

after(async () => {
  provider?.destroy()
  await node?.stop()
  if (dir) rmSync(dir, { recursive: true, force: true })
})

test('build and create', async () => {
  await forge(['build'])
  const made = JSON.parse(await forge(['create', 'src/Counter.sol:Counter', '--broadcast', '--json', '--private-key', alice.privateKey, '--constructor-args', '7']))
  assert.equal(made.deployedTo, getCreateAddress({ from: alice.address, nonce: 0 }))
  counter = new Contract(made.deployedTo, abi, provider)
  assert.equal(await counter.count(), 7n)
  assert.equal((await provider.getTransactionReceipt(made.transactionHash)).status, 1)
})

test('tests on a fork of the chain, now and before', async () => {
  const { Wallet } = await import('ethers')
  await (await counter.connect(new Wallet(bob.privateKey, provider)).increment(1)).wait()
  const said = JSON.parse((await forge(['test', '--json', '--fork-url', node.http], { COUNTER: await counter.getAddress() })).trim())
  const results = Object.values(said)[0].test_results
  assert.deepEqual(Object.keys(results).sort(), ['test_change()', 'test_past()', 'test_revert()', 'test_state()'])
  for (const [name, { status, reason }] of Object.entries(results)) assert.equal(status, 'Success', `${name}: ${reason}`)
})

test('a script that broadcasts', async () => {
  const first = await provider.getTransactionCount(alice.address)
  await forge(['script', 'script/Count.s.sol:Count', '--broadcast', '--rpc-url', node.http, '--private-key', alice.privateKey])
  const folder = join(dir, 'broadcast/Count.s.sol', String(CHAIN_ID))
  const file = readdirSync(folder).find((name) => name === 'run-latest.json')
  const { receipts } = JSON.parse(readFileSync(join(folder, file), 'utf8'))
  assert.equal(receipts.length, 6)
  assert.ok(receipts.every((r) => r.status === '0x1'))
  assert.equal(await provider.getTransactionCount(alice.address), first + 6)
  const made = counter.attach(getCreateAddress({ from: alice.address, nonce: first }))
  assert.equal(await made.count(), 16n)
  assert.equal((await made.queryFilter('Incremented', 0)).length, 5)
})
