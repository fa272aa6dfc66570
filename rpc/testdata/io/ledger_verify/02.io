>> {"id":1,"jsonrpc":"2.0","method":"ledger_verify","params":["0x1","0x1",false]}
<< {"jsonrpc":"2.0","id":1,"result":{"fromBlock":"0x1","toBlock":"0x1","blockHash":"0xefed79a6d795e6cc7b56f523598d36c2bc94e2b689fa904716d30e5cdc811c54","transactions":"0x0","logEntries":"0x0","executed":"0x0","stateRoots":"0x0"}}
