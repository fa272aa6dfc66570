// Two contracts and a call that depends on both, with the result of one as the argument of the other.

import { buildModule } from '@nomicfoundation/hardhat-ignition/modules'

export default buildModule('Counters', (m) => {
  const first = m.contract('Counter', [40n], { id: 'First' })
  const incremented = m.call(first, 'increment', [2n])
  const count = m.readEventArgument(incremented, 'Incremented', 'count')
  const second = m.contract('Counter', [count], { id: 'Second' })
  return { first, second }
})
