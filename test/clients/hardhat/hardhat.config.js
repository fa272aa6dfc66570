// Run by hardhat.test.mjs, which says by the environment where the node is and where to write. The compiler is the one of the lock file: Hardhat would fetch its own.

import { createRequire } from 'node:module'
import { join } from 'node:path'
import hardhatIgnition from '@nomicfoundation/hardhat-ignition'
import { defineConfig } from 'hardhat/config'

const out = process.env.LEDGERD_TEST_OUT ?? '.'

export default defineConfig({
  plugins: [hardhatIgnition],
  solidity: {
    version: '0.8.37',
    path: createRequire(import.meta.url).resolve('solc/soljson.js'),
    settings: { evmVersion: 'osaka' },
  },
  paths: { artifacts: join(out, 'artifacts'), cache: join(out, 'cache') },
  // A block is final as it is made, and there is none without a transaction: to wait for five would be to wait for others to send.
  ignition: { requiredConfirmations: 1 },
  networks: {
    ledgerd: {
      type: 'http',
      chainType: 'l1',
      url: process.env.LEDGERD_URL ?? 'http://127.0.0.1:8545',
      accounts: (process.env.LEDGERD_TEST_KEYS ?? '').split(',').filter(Boolean),
    },
  },
})
