// ledgerd as Hardhat 3 and Ignition see it. They want Node 22.13 or newer, which the lock file has for whoever runs an older one.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { Contract, JsonRpcProvider } from 'ethers'
import { newerNode } from './newer-node.mjs'
import { CHAIN_ID, accounts, startNode } from './node.mjs'

const run = promisify(execFile)
const here = import.meta.dirname
const program = newerNode()
const [alice, bob] = accounts

if (program === undefined) {
  test('Hardhat', { skip: `Node ${process.versions.node} is too old for Hardhat 3, and the lock file has none for ${process.platform} ${process.arch}` }, () => {})
} else {
  let node, dir

  before(async () => {
    node = await startNode()
    dir = mkdtempSync(join(tmpdir(), 'ledgerd-hardhat-'))
  })

  after(async () => {
    await node?.stop()
    if (dir) rmSync(dir, { recursive: true, force: true })
  })

  async function hardhat(...args) {
    const env = {
      ...process.env,
      LEDGERD_URL: node.http,
      LEDGERD_TEST_KEYS: `${alice.privateKey},${bob.privateKey}`,
      LEDGERD_TEST_OUT: dir,
      HARDHAT_DISABLE_TELEMETRY_PROMPT: 'true',
      HARDHAT_IGNITION_CONFIRM_DEPLOYMENT: 'true',
      HARDHAT_IGNITION_CONFIRM_RESET: 'true',
      NODE_OPTIONS: '',
      NO_COLOR: '1',
      HOME: dir, // its caches
    }
    try {
      const { stdout } = await run(program, [join(here, 'hardhat/node_modules/hardhat/dist/src/cli.js'), ...args], { cwd: join(here, 'hardhat'), env, timeout: 100_000 })
      return stdout
    } catch (err) {
      throw new Error(`hardhat ${args.join(' ')}: ${err.message}\n${err.stdout}`)
    }
  }

  test('compile, and deploy a module with Ignition', async () => {
    await hardhat('build', '--quiet')
    const said = await hardhat('ignition', 'deploy', 'ignition/modules/Counters.js', '--network', 'ledgerd', '--deployment-id', 'here')
    assert.match(said, /successfully deployed/)
    const deployed = JSON.parse(readFileSync(join(deployments(), 'deployed_addresses.json'), 'utf8'))
    const { abi } = JSON.parse(readFileSync(join(dir, 'artifacts/contracts/Counter.sol/Counter.json'), 'utf8'))
    const provider = new JsonRpcProvider(node.http, CHAIN_ID, { staticNetwork: true })
    for (const id of ['First', 'Second']) {
      assert.equal(await new Contract(deployed[`Counters#${id}`], abi, provider).count(), 42n, id)
    }
    // A second run finds everything done.
    const nonce = await provider.getTransactionCount(alice.address)
    await hardhat('ignition', 'deploy', 'ignition/modules/Counters.js', '--network', 'ledgerd', '--deployment-id', 'here')
    assert.equal(await provider.getTransactionCount(alice.address), nonce)
    provider.destroy()
  })

  test('a script sends with the accounts of the configuration', async () => {
    const said = JSON.parse((await hardhat('run', 'scripts/use.js', '--network', 'ledgerd')).trim().split('\n').at(-1))
    assert.equal(said.from.toLowerCase(), alice.address.toLowerCase())
    assert.equal(BigInt(said.chainId), BigInt(CHAIN_ID))
    assert.equal(said.receipt.status, '0x1')
    assert.equal(said.receipt.to, bob.address.toLowerCase())
  })

  const deployments = () => join(here, 'hardhat/ignition/deployments/here')
  before(() => rmSync(join(here, 'hardhat/ignition/deployments'), { recursive: true, force: true }))
  after(() => rmSync(join(here, 'hardhat/ignition/deployments'), { recursive: true, force: true }))
}
