>> {"id":1,"jsonrpc":"2.0","method":"ledger_parameters","params":[]}
<< {"jsonrpc":"2.0","id":1,"result":{"gasLimit":"0x8f0d180","baseFee":"0x7","coinbase":"0xc01bba5e00000000000000000000000000000001"}}
