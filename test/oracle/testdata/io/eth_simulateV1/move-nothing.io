>> {"jsonrpc":"2.0","id":1,"method":"eth_simulateV1","params":[{"blockStateCalls":[{"stateOverrides":{"0x000000000000000000000000000000000000C008":{"movePrecompileToAddress":"0x000000000000000000000000000000000000c009"}}}]},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"account 0x000000000000000000000000000000000000C008 is not a precompile"}}
