>> {"id":1,"jsonrpc":"2.0","method":"eth_syncing","params":[]}
<< {"jsonrpc":"2.0","id":1,"result":false}
