>> {"id":1,"jsonrpc":"2.0","method":"eth_coinbase","params":[]}
<< {"jsonrpc":"2.0","id":1,"result":"0xc01bba5e00000000000000000000000000000001"}
