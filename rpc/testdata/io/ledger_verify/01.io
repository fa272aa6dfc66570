>> {"id":1,"jsonrpc":"2.0","method":"ledger_verify","params":["earliest","latest"]}
<< {"jsonrpc":"2.0","id":1,"result":{"fromBlock":"0x0","toBlock":"0x2","blockHash":"0xeadfe305fac2232d0289ab2f682088730c2c493b1fdb00ac25c8520625b203a3","transactions":"0x0","logEntries":"0x0","executed":"0x3","stateRoots":"0x0"}}
