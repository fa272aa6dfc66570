>> {"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"fromBlock":"0x0","topics":[null,"0x000000000000000000000000000000000000000000000000000000000000002a"]}]}
<< {"jsonrpc":"2.0","id":1,"result":[]}
