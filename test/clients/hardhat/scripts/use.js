// Sends by Hardhat's own provider, which signs with the configured accounts and fills in nonce, gas and fees.

import { network } from 'hardhat'

const { provider } = await network.create('ledgerd')
const [from, to] = await provider.request({ method: 'eth_accounts' })
const hash = await provider.request({ method: 'eth_sendTransaction', params: [{ from, to, value: '0x1' }] })
let receipt
for (const end = Date.now() + 20_000; receipt == null && Date.now() < end; ) {
  receipt = await provider.request({ method: 'eth_getTransactionReceipt', params: [hash] })
}
console.log(JSON.stringify({ from, to, receipt, chainId: await provider.request({ method: 'eth_chainId' }) }))
